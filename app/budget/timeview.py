"""How long the run of a budget takes on this machine, beside the button that starts it, and where that comes from."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import widgets, words
from app.model import catalog, paces, studyview
from app.runs import runlog
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs import studies, timing
from compression.runs.folder import QUEUED, RUNNING, RunFolder


def line(subject: catalog.ChosenModel, budget: Budget, path: Path) -> None:
    """One line: the time by earlier runs, else by a few timed steps, else the offer to time them in the background."""
    if estimate := paces.of_budget(subject, budget):
        st.caption(f"About {words.duration(estimate.seconds)} on this machine ({estimate.basis}).")
    elif methods.get(budget.method).trains(budget):
        try:
            _timed(subject, budget, path)
        except CompressionError as error:
            widgets.problem(error)


def _timed(subject: catalog.ChosenModel, budget: Budget, path: Path) -> None:
    question = timing.request(budget)
    key = studyview.key(timing.KIND, subject, str(path), path.stat().st_mtime, question)
    folder = studies.find(key, runlog.store().root)
    state = folder.state if folder is not None else ""
    if folder is not None and state in (QUEUED, RUNNING):
        st.fragment(run_every="1s")(_wait)(folder.id)
    elif result := timing.timed(folder):
        least = words.duration(timing.seconds(result, budget.epochs))
        st.caption(f"About {least} on this machine, or somewhat more ({timing.STEPS} timed steps of plain training).")
    elif st.button(
        "How long will it take?", key="time_steps", type="tertiary", icon=":material/timer:",
        help=f"Times {timing.STEPS} training steps in the background. After a first run, runs say it by themselves.",
    ):  # fmt: skip
        timing.begin(subject.place(Budget()).replace(batch_size=budget.batch_size), runlog.store().root)
        st.rerun()


def _wait(job: str) -> None:
    """Until the job has ended, which draws the page anew."""
    if RunFolder.open(studies.studies(runlog.store().root).root, job).state not in (QUEUED, RUNNING):
        st.rerun()
    st.caption(f"Timing {timing.STEPS} steps…")
