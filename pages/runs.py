"""Runs: the open run live, and the list of all runs."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from app import names, plain, setup, state, theme, widgets, words
from app.gallery import gallery, galleryview
from app.runs import runbuttons, runlog, runview, view_model
from compression.errors import CompressionError
from compression.runs.store import RunInfo

EVERY = "3s"


def opened(infos: list[RunInfo]) -> str:
    """The run in the address, or the newest one."""
    if not state.get("run") and infos:
        state.put("run", next((info.id for info in infos if info.state in view_model.ACTIVE), infos[0].id))
    return state.get("run")


def newest() -> None:
    """Forget the run in the address: the newest one opens."""
    state.put("run", "")


def listing(infos: list[RunInfo], run: str) -> list[dict[str, Any]]:
    """All runs and the queue as rows; of a sweep only its own row, unless it is the one that is open."""
    return [
        {
            "run": info.id,
            "state": widgets.state_words(info.state),
            "method": theme.style(info.method).label,
            "model": names.model_label(info.model),
            "data": names.data_label(info.data),
            "request": f"sweep of {info.runs} runs" if info.runs else names.request(info.budget),
            "stage": info.phase or "",
            "begun": _begun(info),
        }
        for info in infos
        if info.sweep in (None, run)
    ]


def _begun(info: RunInfo) -> str:
    if info.started:
        return words.ago(time.time() - info.started)
    return "not yet" if info.state == "queued" else "never"


def table(run: str, live: bool) -> None:
    """The rows, drawn again while a run goes on; a row opens its run. ``live``: one did when the page was drawn."""
    infos = runlog.listed()
    if state.get("run") != run or (live and not any(info.state in view_model.ACTIVE for info in infos)):
        st.rerun()  # another run was picked here, or the last one has ended
    st.subheader("All runs", anchor=False)
    rows = listing(infos, run)
    ids = [str(row["run"]) for row in rows]
    widgets.picker(rows, ids, run, "runs_table", lambda chosen: state.put("run", chosen))
    waiting = sum(info.state == "queued" and info.sweep is None for info in infos)
    if waiting:
        order = "highest priority first, then the oldest"
        st.caption(f"{words.plural(waiting, 'run')} waiting: {runlog.store().slots} at a time, {order}.")
    with st.container(horizontal=True):
        widgets.download(rows, "runs")
        runbuttons.old_runs(infos)


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "runs", "Each point is the model at one moment: how small, and how good. Up and to the left is better."
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
        live = any(info.state in view_model.ACTIVE for info in infos)
        st.fragment(run_every=EVERY if live else None)(table)(state.get("run"), live)
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
