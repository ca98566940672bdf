"""Budgets, allocations and forecasts as notebooks show them: what is asked for, and what it comes to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, LayerForecast
from compression.plots import theme, words
from compression.plots.titles import data_label, model_label
from compression.quant.allocation import Allocation
from compression.widgets.view import Bar, Table, View

MOST_BITS = 16
TRAINING = ("epochs", "batch_size", "optimizer", "lr", "lr_schedule", "weight_decay", "precision", "seed")
CERTAINTY = {
    "exact": "Computed on the weights.",
    "even": "Counted evenly over the layers; the run decides which get how much.",
    "bound": "The most that the budget allows; which layers get how much of it, the run decides.",
}
COUNTED = {
    "nominal": "weights at their bits, steps and floats",
    "ideal": "values and positions of zeros coded ideally",
    "coded": "codes as the packed file holds them",
}


def request(budget: Budget) -> str:
    """What a budget asks of its method, in the method's words; why there are none."""
    try:
        return methods.get(budget.method).request(budget)
    except CompressionError as error:
        return str(error)


def budget_view(budget: Budget) -> View:
    """What is asked for in a sentence, and every field that says something in a table."""
    facts = (
        ("method", theme.style(budget.method).label),
        ("model", model_label(budget.model)),
        ("data", data_label(budget.data)),
    )
    rows = [*_rows(budget.asks, ""), *_rows(budget.options, "option ")]
    rows += _rows({name: getattr(budget, name) for name in TRAINING}, "")
    for what, bounds in (("group", budget.groups), ("layer", budget.layers)):
        rows += [(f"{what} {name}", _value(dict(bound))) for name, bound in bounds.items()]
    rows += [] if budget.weights is None else [("weights", budget.weights)]
    return View("Budget", facts, (Table(("asked", "value"), rows),), (request(budget),))


def _rows(values: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    return [(f"{prefix}{name}", _value(value)) for name, value in values.items() if value is not None]


def _value(value: Any) -> str:
    """A number as it is written, a range with its ends, anything else as JSON."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and not any(isinstance(end, (list, dict)) for end in value):
        return f"{value[0]} to {value[1]}"
    return value if isinstance(value, str) else json.dumps(value)


def allocation_view(allocation: Allocation) -> View:
    """Zeros, bits and error of every layer, zeros and bits as bars."""
    total = allocation.error or 1.0
    rows = [
        (
            layer.name, f"{layer.numel:,}", Bar(layer.pruned / layer.numel, words.share(layer.pruned / layer.numel)),
            Bar(layer.bits / MOST_BITS, f"{layer.bits}"), f"{layer.step:.3g}", words.share(layer.error / total),
        )
        for layer in allocation.layers
    ]  # fmt: skip
    width = allocation.value_bits / max(1, allocation.numel - allocation.pruned)
    facts = (
        ("zeros", f"{allocation.pruned:,} of {allocation.numel:,} weights"),
        ("bits for each that stays", f"{width:.3f}"),
        ("", "optimal" if allocation.exact else "approximate"),
    )
    head = ("layer", "weights", "zeros", "bits", "step", "share of the error")
    return View("Allocation", facts, (Table(head, rows),), allocation.notes)


def forecast_view(forecast: Forecast) -> View:
    """Bytes, MACs and BOPs of the whole, and a row for each layer; why nothing is known."""
    if forecast.bytes is None or forecast.dense is None or forecast.low is None or forecast.high is None:
        return View("Forecast", (("", "unknown"),), (), forecast.notes)
    (low, high), dense = forecast.bytes, forecast.dense
    counted = COUNTED.get(forecast.bytes_kind or "", "")
    facts = [
        ("bytes", f"{words.between(low, high, words.size)} ({counted})"),
        ("", f"{words.between(dense.nominal_bytes / high, dense.nominal_bytes / low, words.ratio)} smaller"),
        ("MACs", f"{words.count(forecast.low.macs)}, {words.share(forecast.low.macs / dense.macs, 0)} of dense"),
        ("BOPs", words.between(100 * forecast.low.rel_bops, 100 * forecast.high.rel_bops, _percent)),
    ]
    facts += [] if forecast.error is None else [("error of the weights", _percent(100 * forecast.error))]
    facts += [("units removed", f"{forecast.units:,}")] if forecast.removed else []
    most = max((layer.dense_bytes for layer in forecast.layers), default=0.0) or 1.0
    rows = [_layer(layer, most) for layer in forecast.layers]
    table = Table(("layer", "dense", "forecast", "bits", "zeros"), rows)
    return View("Forecast", facts, (table,), (CERTAINTY.get(forecast.certainty, ""), *forecast.notes))


def _layer(layer: LayerForecast, most: float) -> tuple[object, ...]:
    """``most``: bytes of a bar's whole length."""
    size = words.between(layer.low_bytes, layer.high_bytes, words.size)
    zeros = f"{layer.zeros:,}" if layer.zeros else "–"
    planned = Bar(layer.high_bytes / most, size)
    bits = words.bits(layer.bits).partition(" ")[0]
    return layer.name, Bar(layer.dense_bytes / most, words.size(layer.dense_bytes)), planned, bits, zeros


def _percent(value: float) -> str:
    return f"{value:.3g} %"
