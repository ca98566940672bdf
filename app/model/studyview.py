"""A background job about a model: its result when it was measured before, else the offer, else its progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app import widgets, words
from app.model import catalog
from app.runs import runlog
from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs import studies
from compression.runs import control, pace
from compression.runs.folder import RunFolder
from compression.runs.resultfile import written


def show(
    kind: str, subject: catalog.ChosenModel, path: Path | None, question: dict[str, Any], label: str, explained: str,
    draw: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    """Draw the study's result, or the way there: what is needed for it, the button that begins it, or its progress."""
    if not subject.has_data or path is None:
        st.caption(f"{explained} It needs data and trained weights, and there are none for this choice.")
        return
    try:
        folder = studies.find(key(kind, subject, str(path), path.stat().st_mtime, question), runlog.store().root)
    except CompressionError as error:
        widgets.problem(error)
        return
    state = folder.state if folder is not None else "none"
    if folder is not None and state in ("queued", "running"):
        st.caption(explained)
        st.fragment(run_every="1s")(progress)(kind, folder.id)
    elif folder is not None and state == "done":
        draw(written(folder.result_path))
    else:
        offer(kind, subject, question, label, explained, state)


@st.cache_data(max_entries=32, show_spinner=False)
def key(kind: str, subject: catalog.ChosenModel, path: str, changed: float, question: dict[str, Any]) -> str:
    """The digest of a study of this model with the weights at ``path``, last ``changed`` at that time."""
    return studies.key(kind, subject.place(Budget()), **question)


def offer(
    kind: str, subject: catalog.ChosenModel, question: dict[str, Any], label: str, explained: str, state: str
) -> None:
    """Nothing measured yet, or not to the end: say so, and offer the click."""
    if state != "none":
        st.caption(f"The last one ended early ({widgets.state_words(state)}).")
    st.caption(explained)
    if not st.button(label, icon=":material/monitoring:", key=f"begin {kind}"):
        return
    try:
        with st.spinner("Starting…"):
            studies.begin(kind, subject.place(Budget()), runlog.store().root, **question)
    except CompressionError as error:
        widgets.problem(error)
        return
    st.rerun()


def progress(kind: str, job: str) -> None:
    """How far the background job is; the page is drawn anew when it has ended."""
    root = studies.studies(runlog.store().root).root
    folder = RunFolder.open(root, job)
    events = folder.events()
    state = folder.state_of(events)
    if state not in ("queued", "running"):
        st.rerun()
    planned = next((event for event in events if event["kind"] == "plan"), None)
    total, unit = (int(planned["total_steps"]), planned.get("unit", "steps")) if planned else (0, "steps")
    done = max((int(event["step"]) for event in events if event["kind"] == "step"), default=0)
    waits = "Waiting for its turn" if state == "queued" else "Preparing: data and weights"
    rest = pace.remaining(events)
    more = f", about {words.duration(rest)} left" if rest is not None else ""
    text = f"{done:,} of {total:,} {unit}{more}" if total else waits
    st.progress(min(1.0, done / total) if total else 0.0, text=text)
    if st.button("Stop", icon=":material/stop:", key=f"stop {kind}"):
        control.cancel(job, root)
        st.rerun()
