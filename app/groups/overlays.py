"""What the graph on the Groups page can show as colour: of the network, its saliency, the draft budget, a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import streamlit as st

from app import state, widgets
from app.budget import draft, live_forecast
from app.groups import saliencyoverlay
from app.model import catalog, networks
from app.runs import runlog
from app.terms import tip
from compression.errors import CompressionError
from compression.plots import theme
from compression.plots.overlay import Overlay

KIND = "kind of node"
Values = Mapping[str, float]


def choose(subject: catalog.ChosenModel, network: networks.Network) -> Overlay | None:
    """The control, and the overlay it asks for; ``None`` for the colours of the kinds."""
    path = catalog.weights_file(subject) if subject.has_data else None
    saliency = saliencyoverlay.offered(subject, network, path)
    offered = {**_of_network(network), **saliency, **_of_budget(subject, network, path), **_of_run(network)}
    chosen = st.selectbox(
        "Colour shows",
        [KIND, *offered],
        key="overlay",
        bind="query-params",
        width=180,
        help=tip(
            "Parameters and MACs of every layer; how much its channels matter by four criteria, and whether these "
            "agree; what the draft on the Budget page asks of it; what the run that is open left of it. A module shows "
            "the sum or mean of its layers; nodes that are no such layer turn grey."
        ),
    )
    if chosen not in offered:
        return None
    try:
        overlay = offered[chosen]()
    except CompressionError as error:
        widgets.problem(error)
        return None
    if overlay is not None and not overlay.values:
        st.caption("There is nothing of this to show.")
        return None
    return overlay


def _of_network(network: networks.Network) -> dict[str, Callable[[], Overlay]]:
    rows = networks.layer_rows(network)
    params = {str(row["layer"]): float(row["of all, %"]) for row in rows}
    macs = {str(row["layer"]): float(row["of all MACs, %"]) for row in rows}
    return {
        "parameters": lambda: _shares("parameters", params),
        "MACs": lambda: _shares("MACs", macs),
    }


def _of_budget(
    subject: catalog.ChosenModel, network: networks.Network, path: Path | None
) -> dict[str, Callable[[], Overlay]]:
    return {
        "sparsity asked on Budget": lambda: _sparsity("sparsity asked", budget_values(subject, network, path)[0]),
        "bits asked on Budget": lambda: _bits("bits asked", budget_values(subject, network, path)[1]),
    }


def budget_values(subject: catalog.ChosenModel, network: networks.Network, path: Path | None) -> tuple[Values, Values]:
    """Percent of units or weights that are removed, and the most bits, of every layer as the draft is forecast.

    Raises:
        CompressionError: a draft that cannot be met.
    """
    forecast = live_forecast.forecast(subject, path, draft.budget(subject))
    bits = {layer.name: layer.bits[1] for layer in forecast.layers}
    if forecast.removed:
        return _by_group(network, forecast.removed), bits
    return {layer.name: 100 * layer.zeros / math.prod(layer.shape) for layer in forecast.layers}, bits


def _of_run(network: networks.Network) -> dict[str, Callable[[], Overlay]]:
    run = state.get("run")
    try:
        outcome = runlog.outcome(run) if run else None
        record = runlog.view(run) if outcome else None
    except CompressionError:
        return {}  # a run that does not exist has no values; the pages about runs report it
    if not outcome or not outcome.get("final") or record is None or record.budget.get("model") != state.get("model"):
        return {}
    removed: Mapping[str, int] = next((event["units"] for event in reversed(record.decisions) if "units" in event), {})
    bits = {layer: entry["weight"] for layer, entry in outcome["final"]["bits"].items() if entry.get("weight")}
    offered = {"bits of the run": lambda: _bits("bits of the run", bits)}
    if removed:
        offered["sparsity of the run"] = lambda: _sparsity("sparsity of the run", _by_group(network, removed))
    return offered


def _by_group(network: networks.Network, removed: Mapping[str, int]) -> Values:
    """Percent of units removed for every layer whose output belongs to a prunable group."""
    units = {group.id: group.units for group in network.graph.prunable}
    return {
        layer: 100 * removed.get(group, 0) / units[group]
        for layer, group in network.group_of_layer.items()
        if group in units
    }


def _shares(title: str, values: Values) -> Overlay:
    return Overlay(title, " %", values, 0.0, max(values.values(), default=1.0), adds=True)


def _sparsity(title: str, values: Values) -> Overlay:
    return Overlay(title, " %", values, 0.0, 100.0)


def _bits(title: str, values: Values) -> Overlay:
    most = 16.0 if any(value > 8 for value in values.values()) else 8.0
    return Overlay(title, " bits", values, 2.0, most, theme.BITS_SCALE)
