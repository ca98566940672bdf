"""Training the dense model from a page: a button that says how long it takes, its progress, the way to stop it."""

from __future__ import annotations

import streamlit as st

from app import names, plain, widgets, words
from app.model import catalog, paces, studyview
from app.runs import permissions, runlog
from compression import zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs import dense
from compression.runs.folder import DONE, QUEUED, RUNNING


def section(subject: catalog.ChosenModel) -> None:
    """What trains the weights that a run needs: here as a background job, or by a command in a terminal."""
    budget = _budget(subject)
    try:
        folder = dense.find(budget, runlog.store().root)
    except CompressionError as error:
        widgets.problem(error)
        return
    state = folder.state if folder is not None else ""
    if folder is not None and state in (QUEUED, RUNNING):
        label = plain.text(names.model_label(subject.model))
        st.caption(f"Trains {label} for {budget.epochs:g} epochs. You may leave this page.")
        st.fragment(run_every="1s")(studyview.progress)(dense.KIND, folder.id)
        return
    if folder is not None and state not in (DONE, ""):
        reason = next((event.get("error") for event in reversed(folder.events()) if event.get("error")), "")
        st.caption(f"The last training ended early ({plain.text(reason or widgets.state_words(state))}).")
    _offer(subject, budget)
    with st.expander("Or in a terminal", type="compact", key="train_line_fold"):
        st.code(catalog.train_line(subject), language="bash", wrap_lines=True)


def _budget(subject: catalog.ChosenModel) -> Budget:
    """What trains this model: its usual number of epochs, from seed 0."""
    return subject.place(Budget()).replace(epochs=float(zoo.spec(subject.model).epochs), seed=0, weights=None)


def _offer(subject: catalog.ChosenModel, budget: Budget) -> None:
    """The button, with the time that it takes where earlier training on this machine says it."""
    seconds = paces.training(subject, budget.epochs)
    length = f"{budget.epochs:g} epochs" if seconds is None else f"about {words.duration(seconds)}"
    explained = (
        f"Trains the network for {budget.epochs:g} epochs as a background job on this machine. The weights are stored "
        "where all pages and runs search for them."
    )
    if not st.button(f"Train it here ({length})", icon=":material/model_training:", key="train_here", help=explained):
        return
    try:
        permissions.check(budget)
        with st.spinner("Starting…"):
            dense.begin(budget, runlog.store().root)
    except CompressionError as error:
        widgets.problem(error)
        return
    st.rerun()
