"""Runs: the open run live, and the list of all runs."""

from __future__ import annotations

import streamlit as st

from app import plain, setup, state, widgets
from app.gallery import gallery, galleryview
from app.runs import runlist, runlog, runview
from compression.errors import CompressionError
from compression.plots import run_view
from compression.runs.store import RunInfo

EVERY = "3s"


def opened(infos: list[RunInfo]) -> str:
    """The run in the address, or the newest one."""
    if not state.get("run") and infos:
        state.put("run", next((info.id for info in infos if info.state in run_view.ACTIVE), infos[0].id))
    return state.get("run")


def newest() -> None:
    """Forget the run in the address: the newest one opens."""
    state.put("run", "")


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "runs", "How small a model becomes, and how good it stays. In both charts up and to the left is better."
    )
    infos = runlog.listed()
    run = opened(infos)
    if run:
        draw(run)
    else:
        widgets.empty(
            "No runs yet. Start one with a click, or open a finished one from the gallery below.",
            "start",
            "Start a first run",
        )
    if infos:
        live = any(info.state in run_view.ACTIVE for info in infos)
        st.fragment(run_every=EVERY if live else None)(runlist.section)(state.get("run"), live)
    galleryview.table(run)
    for problem in (*runlog.store().problems, *gallery.read().problems):
        st.caption(plain.text(problem))


def draw(run: str) -> None:
    """The open run, drawn again while it goes on; one line when there is none of this name."""
    try:
        active = runlog.view(run).active
    except CompressionError as error:
        widgets.problem(error)
        if any(info.id != run for info in runlog.listed()):
            st.button("Open the newest run", key="newest", icon=":material/undo:", on_click=newest)
        return
    live = st.fragment(run_every="1s" if active else None)(runview.draw)
    with st.container(key="live"):
        live(run, setup.query, setup.units)


page()
