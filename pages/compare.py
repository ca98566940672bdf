"""Compare: every finished run of one model and data set on one front; the picked one explained below it."""

from __future__ import annotations

import streamlit as st

from app import names, plain, state, widgets
from app.compare import compareview, finals, gallerybeside
from app.gallery import gallery
from app.runs import runlog
from app.terms import tip
from compression.plots import run_view
from compression.runs.store import RunInfo

EVERY = "3s"


def preferred(own: list[RunInfo], shipped: list[RunInfo], opened: RunInfo | None) -> finals.Pair | None:
    """Which model and data set: the picked run's, else those in the address, else those with most own runs."""
    counts = finals.pairs([*own, *shipped])
    pair = (opened.model, opened.data) if opened else (state.get("model"), state.get("data"))
    return pair if pair in counts else next(iter(finals.pairs(own) or counts), None)


def pair_of(own: list[RunInfo], shipped: list[RunInfo], opened: RunInfo | None) -> finals.Pair:
    """The preferred model and data set, or another one that is picked here."""
    counts = finals.pairs([*own, *shipped])
    pair = preferred(own, shipped, opened) or next(iter(counts))
    if len(counts) > 1:
        labels = {one: gallerybeside.label(one, gallerybeside.split(own, one)[1] if shipped else []) for one in counts}
        st.session_state["compare_pair"] = pair
        st.selectbox(
            "Model and data",
            list(counts),
            key="compare_pair",
            format_func=lambda pair: f"{labels[pair]}: {counts[pair]} finished",
            help=tip("Only runs of one model on one data set can be compared: they answer the same question."),
            on_change=lambda: change(st.session_state["compare_pair"]),
        )
    else:
        st.caption(f"{plain.text(names.subject(*pair))}: all runs here are of this model and data set.")
    return pair


def change(pair: finals.Pair) -> None:
    """Another model and data set; what was picked belongs to the old one."""
    for name, value in (("run", ""), ("other", ""), ("model", pair[0]), ("data", pair[1])):
        state.put(name, value)


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "compare",
        "Every finished run at the size and score it ended with. The line is the **front**: no other run is both "
        "cheaper and better than those on it.",
    )
    own = runlog.listed()
    for problem in runlog.known("run", "other"):
        widgets.problem(problem)
    opened = next((info for info in (*own, *gallery.infos()) if info.id == state.get("run")), None)
    shipped = gallery.infos() if gallerybeside.toggle(own, preferred(own, gallery.infos(), opened)) else []
    if not any(not info.runs for info in (*own, *shipped)):
        widgets.empty(
            "No runs yet, so there is nothing to compare. Two or more runs with different budgets make a front.",
            "budget",
            "Set up a run or a sweep",
        )
        return
    pair = pair_of(own, shipped, opened)
    if opened is not None and not opened.runs:
        state.put("model", pair[0])
        state.put("data", pair[1])
    mine, theirs, reason = gallerybeside.split(own, pair) if shipped else (own, [], "")
    if reason:
        st.caption(reason)
    live = any(info.state in run_view.ACTIVE for info in mine if (info.model, info.data) == pair)
    st.fragment(run_every=EVERY if live else None)(compareview.draw)(pair, theirs, bool(mine))


page()
