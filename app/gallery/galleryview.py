"""What a run of the gallery has beside others: what to see in it, where it comes from, how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import names, nav, state, theme, widgets, words
from app.gallery import gallery
from app.gallery.gallery import Exhibit
from compression import tasks
from compression.errors import CompressionError

FIGURES_ONLY = "This run kept its figures, not its compressed model"


def about(exhibit: Exhibit) -> None:
    """A finished run that came with the app: what to see in it, and what can be done with it."""
    model = "" if exhibit.whole or exhibit.info.runs else f" {FIGURES_ONLY}: Explain and Export need another run."
    st.caption(f"{exhibit.line} From the gallery, to look at and to work with; it stays as it is.{model}".strip())


def origin(exhibit: Exhibit, set_up: nav.SetUp) -> None:
    """The command, commit and machine behind the figures, and the button that sets the same up here."""
    try:
        record = exhibit.record()
    except CompressionError as error:
        widgets.problem(error)
        return
    with st.container(horizontal=True):
        repeat(exhibit, set_up)
    if record:
        with st.expander("Where it comes from", type="compact"):
            st.code(str(record.get("command", "")), language="bash", wrap_lines=True)
            widgets.table(rows(record), "origin")


def rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """Data, weights, seed, commit and machine of a shipped run."""
    weights, versions = record.get("weights", {}), record.get("versions", {})
    pairs = (
        ("data", record.get("data")),
        ("dense weights", f"{weights.get('file')}, SHA-256 {str(weights.get('sha256'))[:16]}…"),
        ("seed", record.get("seed")),
        ("commit", record.get("commit")),
        ("worked", words.duration(float(record.get("seconds", 0)))),
        ("processor", f"{record.get('processor')}, {words.plural(int(record.get('threads', 1)), 'thread')}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    )
    return [{"": name, "what": str(value)} for name, value in pairs]


def repeat(exhibit: Exhibit, set_up: nav.SetUp) -> None:
    """Set up the Budget page with the same budget."""
    if exhibit.info.runs or not st.button(
        "Set up the same run",
        icon=":material/replay:",
        key="repeat",
        help="Opens the Budget page with this budget: start it as it is, or change it first.",
    ):
        return
    nav.go("budget", **set_up(exhibit.info.id))


def without_model(exhibit: Exhibit, missing: str, set_up: nav.SetUp) -> None:
    """One line on what is missing for this page, and what to do instead."""
    st.info(f"{FIGURES_ONLY}: {missing}. Set up the same run here, or pick one with a model.", icon=":material/block:")
    with st.container(horizontal=True, vertical_alignment="center"):
        repeat(exhibit, set_up)
        nav.link("compare", "See the run in Compare", run=exhibit.info.id)


def table(opened: str) -> None:
    """Every run of the gallery as a table; a row opens its run."""
    shown = [exhibit for exhibit in gallery.exhibits() if exhibit.info.sweep in (None, opened)]
    if not shown:
        return
    st.subheader("Gallery", anchor=False)
    st.caption("Finished runs that came with the app. Pick one to open it; they stay as they are.")
    ids = [exhibit.info.id for exhibit in shown]
    listed = listing(shown)
    widgets.picker(listed, ids, opened, "gallery_table", lambda chosen: state.put("run", chosen))
    names_of = ({"model": exhibit.info.model, "data": exhibit.data} for exhibit in shown)
    widgets.download([{**row, **own} for row, own in zip(listed, names_of, strict=True)], "gallery")


def listing(shown: Sequence[Exhibit]) -> list[dict[str, Any]]:
    """Runs of the gallery as rows: settings and result."""
    return [
        {
            "run": exhibit.info.id,
            "method": theme.style(exhibit.info.method).label,
            "model": names.model_label(exhibit.info.model),
            "data": gallery.data_label(exhibit.info),
            "settings": gallery.request(exhibit),
            "test score": tasks.metric_of(exhibit.final).show(exhibit.final["score"]) if exhibit.final else "",
            "size": words.size(exhibit.final["bytes"]) if exhibit.final else "",
            "compressed model": "yes" if exhibit.whole or exhibit.info.runs else "figures only",
        }
        for exhibit in shown
    ]
