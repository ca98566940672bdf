"""Runs of the gallery beside the user's own on Compare: whether they are shown, and which may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import names, state
from app.compare import finals
from app.gallery import gallery
from app.terms import tip
from compression.runs.store import RunInfo

KEY = "gallery_shown"
ENOUGH = 3  # own finished runs of a model and data set, from which on those of the gallery are not shown by themselves


def toggle(own: Sequence[RunInfo], pair: finals.Pair | None) -> bool:
    """Are runs of the gallery shown? The user decides.

    Until then, where one is opened, or fewer than :data:`ENOUGH` of the user's own of this pair are finished.
    """
    if KEY not in st.query_params:
        st.session_state.setdefault(KEY, few(own, pair))
    if gallery.is_gallery(state.get("run")) or gallery.is_gallery(state.get("other")):
        st.session_state[KEY] = True
    if not gallery.exhibits():
        return False
    return bool(
        st.toggle(
            "Show gallery runs",
            key=KEY,
            bind="query-params",
            on_change=_hide,
            help=tip(
                "Finished runs that came with the app, beside your own. They stay as they are and cannot be deleted."
            ),
        )
    )


def few(own: Sequence[RunInfo], pair: finals.Pair | None) -> bool:
    """Whether the user's finished runs of a pair are too few to be a front of their own."""
    return pair is None or finals.pairs(own).get(pair, 0) < ENOUGH


def _hide() -> None:
    """Without the gallery, what was picked from it is no longer there."""
    if not st.session_state[KEY]:
        for name in ("run", "other"):
            if gallery.is_gallery(state.get(name)):
                state.put(name, "")


def split(own: Sequence[RunInfo], pair: finals.Pair) -> tuple[list[RunInfo], list[RunInfo], str]:
    """The user's runs and those of the gallery that one chart of this pair holds, and why some are left out."""
    mine = [info for info in own if not info.runs and (info.model, info.data) == pair]
    theirs = [info for info in gallery.infos() if not info.runs and (info.model, info.data) == pair]
    others = [info for info in theirs if not gallery.comparable(info)]
    if not mine or not others:
        return mine, theirs, ""
    title = gallery.data_label(others[0])
    if gallery.is_gallery(state.get("run")):
        return [], theirs, f"Your own runs are on other images than {title}: only those of the gallery are shown."
    fitting = [info for info in theirs if info not in others]
    return mine, fitting, f"The gallery's runs are of {title}, other images than yours: they are not shown."


def label(pair: finals.Pair, theirs: Sequence[RunInfo]) -> str:
    """Model and data of a pair in a few words; the data as the gallery names them where its runs are shown."""
    return gallery.subject(theirs[0]) if theirs else names.subject(*pair)
