"""Budget: how much sparsity and how few bits; what that comes to, at once; start a run, a sweep or a race."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app import state, timing, widgets
from app.budget import (
    boundrows,
    bounds,
    boundtable,
    budget_form,
    budgetfile,
    calibrationview,
    curveview,
    draft,
    forecast_panel,
    permalink,
    pictureview,
    saliencyview,
    sensitivityview,
    start_run,
    twobudgets,
)
from app.model import catalog, networks, opening
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast
from compression.jobs import calibration
from compression.plots import plan as figures


@dataclass(frozen=True, eq=False)
class Present:
    """The budget that the form shows, and its forecast (none when it cannot be met)."""

    subject: catalog.ChosenModel
    network: networks.Network
    path: Path | None
    budget: Budget
    forecast: Forecast | None


def plan(now: Present) -> None:
    """Bytes of every layer, dense and forecast."""
    if now.forecast is None:
        st.caption("There is no plan as long as the budget cannot be met.")
        return
    if not now.forecast.layers:
        st.caption("Nothing is known of single layers before the run.")
        return
    pictureview.section(now.subject, now.path, now.budget)
    st.caption(forecast_panel.basis(now.forecast, now.path))
    info = figures.plan_info(forecast_panel.layer_plans(now.forecast), now.budget.method)
    alt = "Bytes per layer, dense and planned; the table below holds the same."
    widgets.chart(figures.plan_figure(info), "plan", forecast_panel.rows(now.forecast), alt)


def layers(now: Present) -> None:
    """Bounds of single layers and groups: sliders, and the same as a table."""
    st.caption(
        "Left: sparsity, right: bits of the weights. What is not bounded is left to the method, and its slider "
        "follows. Move one to hold the layer to it; × removes the bound."
    )
    rows = bounds.rows(now.network, now.budget, now.forecast)
    if refused := st.session_state.pop(boundtable.PROBLEM, None):
        widgets.problem(refused)
    boundrows.draw(rows)
    st.caption("The same bounds as a table. Edit a cell to set a bound, empty it to remove the bound.")
    boundtable.draw(rows)
    anything = bool(now.budget.groups or now.budget.layers)
    st.button("Remove all bounds", on_click=draft.clear_bounds, icon=":material/clear_all:", disabled=not anything)


def sensitivity(now: Present) -> None:
    """What one layer at a time costs."""
    sensitivityview.section(now.subject, now.network, now.budget, now.path)


def saliency(now: Present) -> None:
    """Which channels matter, by several criteria."""
    saliencyview.section(now.subject, now.path)


def compare(now: Present) -> None:
    """The stored budget beside the present one."""
    twobudgets.section(now.budget, now.forecast)


def before_training(now: Present) -> None:
    """Accuracy of the method's allocation as it is computed."""
    if now.forecast is not None:
        curveview.section(now.subject, now.budget, now.forecast, now.path)


def inputs(now: Present) -> None:
    """How many inputs are enough."""
    calibrationview.section(now.subject, now.budget, now.path)


def files(now: Present) -> None:
    """Save and load the budget as JSON."""
    budgetfile.draw(now.budget)


PARTS: dict[str, Callable[[Present], None]] = {
    "Plan": plan,
    "Layers": layers,
    "Sensitivity": sensitivity,
    "Saliency": saliency,
    "Compare budgets": compare,
    "Save and load": files,
    "Before training": before_training,
    "Inputs": inputs,
}


def parts(now: Present) -> None:
    """Everything beside the form and the forecast; only the open part is made."""
    offered = {
        "Before training": methods.get(now.budget.method).allocates,
        "Inputs": calibration.offered(now.budget.method),
    }
    names = [name for name in PARTS if offered.get(name, True)]
    for name, tab in zip(names, st.tabs(names, key="part", on_change="rerun", bind="query-params"), strict=True):
        if tab.open:
            with tab:
                PARTS[name](now)


@st.fragment
@timing.logged("budget answer")
def compose(subject: catalog.ChosenModel, network: networks.Network) -> None:
    """Form and forecast together, so that moving a slider reruns only this."""
    if (state.get("model"), state.get("data")) != (subject.model, subject.data):
        st.rerun()  # a loaded budget is about another model
    path = catalog.weights_file(subject) if subject.has_data else None
    if origin := catalog.origin(subject, path):
        st.caption(f"Starts from {origin}.")
    left, right = st.columns([2, 3], gap="large")
    with left:
        budget_form.draw(network)
    with right:
        permalink.write()
        try:
            budget = draft.budget(subject)
        except CompressionError as error:
            forecast_panel.refused(error)
            return
        forecast, possible = forecast_panel.answer(subject, network, budget, path)
        start_run.buttons(subject, network, budget, path, possible)
        parts(Present(subject, network, path, budget, forecast))


def page() -> None:
    """The page from top to bottom."""
    widgets.headline(
        "budget",
        "Choose how much is removed and how few bits remain. Size and work are computed while you choose; a run shows "
        "what that costs in quality.",
    )
    opened = opening.network()
    if opened is None:
        return
    widgets.context(opened.subject.model, opened.subject.data)
    for line in permalink.read():
        st.warning(line, icon=":material/link_off:")
    compose(opened.subject, opened.network)


page()
