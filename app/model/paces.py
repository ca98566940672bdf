"""How long runs and training take on this machine, as pages say it: from the events of those that ended here."""

from __future__ import annotations

import streamlit as st

from app.model import catalog
from app.runs import runlog
from compression.budget import Budget
from compression.jobs import dense, studies
from compression.runs import pace
from compression.runs.folder import RunFolder
from compression.runs.store import RunInfo


def of_budget(subject: catalog.ChosenModel, budget: Budget) -> pace.Estimate | None:
    """How long a run of this budget takes; ``None``: no earlier run here says it."""
    macs = float(catalog.traced(subject).graph.macs)
    root = runlog.store().root
    return pace.estimate(budget, _listed(str(root)), lambda run: _pace(str(root / run)), macs)


def training(subject: catalog.ChosenModel, epochs: float) -> float | None:
    """Seconds that training the dense model takes, by training that ended here, else by runs that trained it, or
    another network on the same data by its MACs; ``None``: nothing says it.
    """
    if (runlog.store().root / studies.FOLDER).is_dir():
        store = studies.studies(runlog.store().root)
        jobs = [info for info in store.list() if info.id.startswith(f"{dense.KIND}-") and info.state == "done"]
        for info in jobs:
            if (info.model, info.data) == (subject.model, subject.data):
                timed = _pace(str(store.root / info.id))
                return timed.rest + timed.epoch * epochs if timed is not None else None
    estimate = of_budget(subject, subject.place(Budget()).replace(epochs=epochs))
    return estimate.seconds if estimate is not None else None


@st.cache_data(max_entries=4, ttl=10, show_spinner=False)
def _listed(root: str) -> list[RunInfo]:
    """The runs as of the last seconds: while a slider moves, the list is not read anew for each of its answers."""
    return runlog.listed()


@st.cache_data(max_entries=256, show_spinner=False)
def _pace(path: str) -> pace.Pace | None:
    """Of a run that is done, which changes no more."""
    return pace.of_run(RunFolder(path))
