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
from compression.plots.plan import LayerPlan

Cell = tuple[str, str, str, str]
SIZES = {
    "nominal": "The size is nominal: all weights at their bits, with steps and what stays in floats. The packed file "
    "codes the weights and adds names and a header: it may be smaller or larger.",
    "ideal": "The size is values and positions of zeros, coded ideally.",
    "coded": "The size is that of the codes as the packed file holds them.",
}
"""By :attr:`Forecast.bytes_kind`."""


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
    if forecast.bytes is None or forecast.dense is None or forecast.low is None or forecast.high is None:
        return []
    (low, high), whole = forecast.bytes, forecast.dense.nominal_bytes
    smaller = f"{words.between(whole / high, whole / low, words.ratio)} smaller"
    work = f"{words.share(forecast.low.macs / forecast.dense.macs, 0)} of dense"
    bops = words.between(100 * forecast.low.rel_bops, 100 * forecast.high.rel_bops, lambda share: f"{share:.3g} %")
    cells = [
        ("Size", words.between(low, high, words.size), smaller, words.HELP["planned_bytes"]),
        ("MACs", words.count(forecast.low.macs), work, words.HELP["macs"]),
        ("BOPs", bops, "of the dense fp32 model", words.HELP["bops"]),
    ]
    if forecast.error is not None:
        explained = "Σ(w − ŵ)² relative to Σw², measured on the weights"
        cells.append(("Error of the weights", f"{100 * forecast.error:.3g} %", "before any training", explained))
    elif forecast.certainty == "even" and forecast.removed:
        whole_units = f"of {network.graph.prunable_units:,}"
        cells.append(("Channels removed", f"{forecast.units}", whole_units, words.HELP["unit"]))
    return cells


def basis(forecast: Forecast, path: Path | None) -> str:
    """What the figures rest on; empty where nothing is known."""
    if forecast.certainty == "unknown":
        return ""
    counted = SIZES.get(forecast.bytes_kind or "", "")
    if forecast.certainty == "even":
        even = (
            "Counted for channels removed evenly; the run picks them by what they contribute."
            if forecast.removed
            else "Counted evenly over the layers; the run decides which get how much."
        )
        return f"{even} {counted}"
    if forecast.certainty == "bound":
        return "The most that the budget allows; which layers get how much of it, the run decides when it begins."
    if path is None:
        return "Computed on untrained weights, since there are no trained ones: only a rough guide."
    return f"Computed on the trained weights. {counted}"


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
