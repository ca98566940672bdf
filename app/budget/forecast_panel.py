"""What the method forecasts for the budget: figures, what they rest on, and the same layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app import live, plain, widgets, words
from app.budget import draft, live_forecast
from app.model import catalog, networks
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, LayerForecast
from compression.plots import forecast as figures_of
from compression.plots.plan import LayerPlan

Cell = tuple[str, str, str, str]
HELP = {
    "bytes": words.HELP["planned_bytes"], "macs": words.HELP["macs"], "bops": words.HELP["bops"],
    "unit": words.HELP["unit"], "error": "Σ(w − ŵ)² relative to Σw², measured on the weights",
}  # fmt: skip
"""By :attr:`compression.plots.forecast.Figure.kind`."""


def refused(error: CompressionError) -> None:
    """Why the budget cannot be met, and the way out where bounds of single layers and groups may be the reason."""
    widgets.problem(error)
    if draft.get().groups or draft.get().layers:
        st.button("Remove the bounds", key="remove_bounds", icon=":material/clear_all:", on_click=draft.clear_bounds)


def answer(
    subject: catalog.ChosenModel, network: networks.Network, budget: Budget, path: Path | None
) -> tuple[Forecast | None, bool]:
    """Draw the forecast, or the line that says why there is none; returns it, and whether a run can be started."""
    try:
        forecast = live_forecast.forecast(subject, path, budget)
    except CompressionError as error:
        refused(error)
        return None, isinstance(error, live.TooLarge)
    if cells := figures(forecast, network):
        widgets.metrics(*cells)
    for note in forecast.notes:
        st.caption(plain.text(note))
    return forecast, True


def figures(forecast: Forecast, network: networks.Network) -> list[Cell]:
    """The cells of the panel; none of what is unknown."""
    cells = figures_of.figures(forecast, network.graph.prunable_units)
    return [(cell.label, cell.value, cell.note, HELP[cell.kind]) for cell in cells]


def basis(forecast: Forecast, path: Path | None) -> str:
    """What the figures rest on; empty where nothing is known."""
    return figures_of.basis(forecast, trained=path is not None)


def layer_plans(forecast: Forecast) -> tuple[LayerPlan, ...]:
    """The layers as the charts take them."""
    return tuple(
        LayerPlan(layer.name, layer.dense_bytes, layer.low_bytes, layer.high_bytes, _sentence(layer))
        for layer in forecast.layers
    )


def _sentence(layer: LayerForecast) -> str:
    """Hover text of one layer: what is asked of its weights, and their bytes before and after."""
    dense, low, high = (words.size(size) for size in (layer.dense_bytes, layer.low_bytes, layer.high_bytes))
    if layer.allocation is None:
        shapes = f"{words.shape(layer.shape)} → {words.shape(layer.kept_shape)}"
        return f"<b>{layer.name}</b><br>{shapes}, {words.bits(layer.bits)}<br>{dense} → {low} to {high}"
    numel, bits = layer.allocation.numel, f"{layer.allocation.bits} bits"
    weights = f"{numel:,} weights of {bits}"
    if layer.zeros:
        weights = f"{words.share(layer.zeros / numel)} of {numel:,} weights at zero, {bits} for the others"
    return f"<b>{layer.name}</b><br>{weights}<br>{dense} → {high}"


def rows(forecast: Forecast) -> list[Mapping[str, Any]]:
    """The layers as a table."""
    return [_row(layer) for layer in forecast.layers]


def _row(layer: LayerForecast) -> dict[str, Any]:
    each = layer.allocation
    if each is None:
        sizes = {"dense": layer.dense_bytes, "least": layer.low_bytes, "most": layer.high_bytes}
        return {"layer": layer.name, **{f"{name} bytes": round(size) for name, size in sizes.items()}}
    return {
        "layer": each.name,
        "weights": each.numel,
        "at zero": each.pruned,
        "at zero, %": round(100 * each.pruned / each.numel, 1),
        "bits": each.bits,
        "step": float(f"{each.step:.4g}"),
        "threshold": float(f"{each.threshold:.4g}"),
        "squared error": float(f"{each.error:.4g}"),
        **({} if each.offset is None else {"offset": float(f"{each.offset:.4g}")}),
        **({} if each.scales is None else {"scales": len(each.scales)}),
        **({} if each.coded is None else {"coded bytes": each.coded}),
        **({} if each.scheme is None else {"scheme": each.scheme}),
    }
