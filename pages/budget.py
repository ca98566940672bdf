"""Budget: how much sparsity and how few bits; what that gives answers at once; start a run or a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import streamlit as st

from app import state, timing, widgets
from app.budget import (
    boundrows,
    bounds,
    boundtable,
    budget_form,
    budgetfile,
    closed,
    curveview,
    draft,
    forecast_panel,
    permalink,
    query_params,
    saliencyview,
    sensitivityview,
    sparsity,
    start_run,
    twobudgets,
)
from app.budget.planned import Plan
from app.model import catalog, networks, opening
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots import plan as figures


@dataclass(frozen=True, eq=False)
class Draft:
    """The budget as it stands, and what it gives (nothing when it cannot be met)."""

    of: catalog.Subject
    found: networks.Network
    path: Path | None
    budget: Budget
    planned: Plan | None


def plan(now: Draft) -> None:
    """Bytes of every layer, dense and planned."""
    if now.planned is None:
        st.caption("There is no plan as long as the budget cannot be met.")
        return
    st.caption(forecast_panel.basis(now.budget, now.path))
    info = figures.plan_info(now.planned.layers, now.budget.method)
    alt = "Bytes per layer, dense and planned; the table below holds the same."
    widgets.chart(figures.plan_figure(info), "plan", now.planned.table, alt)


def layers(now: Draft) -> None:
    """Bounds of single layers and groups: sliders, and the same as a table."""
    st.caption(
        "Left: sparsity, right: bits of the weights. What is not bounded is left to the method, and its slider "
        "follows. Move one to hold the layer to it; × lets go."
    )
    rows = bounds.rows(now.found, now.budget, now.planned)
    if refused := st.session_state.pop(boundtable.PROBLEM, None):
        widgets.problem(refused)
    boundrows.draw(rows)
    st.caption("The same bounds as a table. Edit a cell to set a bound, empty it to take the bound away.")
    boundtable.draw(rows)
    anything = bool(now.budget.groups or now.budget.layers)
    st.button("Remove all bounds", on_click=draft.clear_bounds, icon=":material/clear_all:", disabled=not anything)


def sensitivity(now: Draft) -> None:
    """What one layer at a time costs."""
    sensitivityview.section(now.of, now.found, now.budget, now.path)


def saliency(now: Draft) -> None:
    """Which channels matter, by several criteria."""
    saliencyview.section(now.of, now.path)


def compare(now: Draft) -> None:
    """The kept budget beside the present one."""
    twobudgets.section(now.budget, now.planned)


def before_training(now: Draft) -> None:
    """Accuracy of OPQ's allocation as it stands."""
    if now.planned is not None:
        curveview.section(now.of, now.budget, now.planned, now.path)


def files(now: Draft) -> None:
    """Save and load the budget as JSON."""
    budgetfile.draw(now.budget)


PARTS: dict[str, Callable[[Draft], None]] = {
    "Plan": plan,
    "Layers": layers,
    "Sensitivity": sensitivity,
    "Saliency": saliency,
    "A and B": compare,
    "Save and load": files,
    "Before training": before_training,
}


def parts(now: Draft) -> None:
    """Everything beside the questions and the answer; only the open part is made."""
    names = [name for name in PARTS if name != "Before training" or now.budget.method == "opq"]
    for name, tab in zip(names, st.tabs(names, key="part", on_change="rerun", bind="query-params"), strict=True):
        if tab.open:
            with tab:
                PARTS[name](now)


@st.fragment
@timing.logged("budget answer")
def compose(of: catalog.Subject, found: networks.Network) -> None:
    """Sliders and answers together, so that moving one reruns only this."""
    if (state.get("model"), state.get("data")) != (of.model, of.data):
        st.rerun()  # a loaded budget is about another model
    path = catalog.weights_file(of) if of.has_data else None
    if origin := catalog.origin(of, path):
        st.caption(f"Starts from {origin}.")
    left, right = st.columns([2, 3], gap="large")
    with left:
        sparsity.fit(found)
        query_params.follow(partial(budget_form.sliders, found))
    with right:
        permalink.write()
        try:
            budget = draft.budget(of)
        except CompressionError as error:
            forecast_panel.refused(error)
            return
        planned = forecast_panel.answer(of, found, budget, path)
        possible = planned is not None or closed.too_large(of, budget)
        start_run.buttons(of, found, budget, path, possible)
        parts(Draft(of, found, path, budget, planned))


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "budget",
        "Say how much may go and how few bits may stay. Size and work answer at once; a run shows what it costs in "
        "accuracy.",
    )
    opened = opening.network()
    if opened is None:
        return
    of = opened.subject
    widgets.context(of.model, of.data)
    for line in query_params.tidy(partial(budget_form.sliders, opened.network)):
        st.warning(line, icon=":material/link_off:")
    permalink.read()
    compose(of, opened.network)


page()
