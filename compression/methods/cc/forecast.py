"""What a saving comes to before a run, in closed form: the same share of every layer, by its rank."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping

from compression.asks import MACS
from compression.budget import Budget
from compression.counting.cost import Cost, cost
from compression.forecast import FLOAT_BYTES, Forecast, LayerForecast, Subject, even_pruning_forecast
from compression.graph import Graph, factorable
from compression.graph.types import Layer
from compression.methods.cc.options import SAVED, WEIGHT_BITS, CcOptions
from compression.posttraining.low_rank import largest_saving, rank_saving
from compression.pruning.choose import UnitLimits, unit_bounds
from compression.pruning.target import CostShare

_ROUNDING = 1e-9
STEPS = 1000
"""Shares of a layer's MACs that are looked at."""


def even_forecast(subject: Subject, budget: Budget, options: CcOptions) -> Forecast:
    """Ranks alone or, where they do not reach the saving or may not be lowered, units alone.

    Raises:
        CompressionError: bounds that no choice of units satisfies.
    """
    forecast = even_rank_forecast(subject, budget) if options.units != "all" else None
    if forecast is not None:
        return forecast
    saved = SAVED.value(budget.asks)
    limits = UnitLimits.from_groups(subject.graph.prunable, unit_bounds(budget.groups))
    if not CostShare(subject.graph, MACS, saved).reached(limits.highest):
        return Forecast.unknown("Only units and ranks together save that much: what it comes to is known after a run.")
    asks = {MACS: saved, WEIGHT_BITS.field: WEIGHT_BITS.value(budget.asks)}
    return even_pruning_forecast(subject, budget.replace(asks=asks), WEIGHT_BITS)


def even_rank_forecast(subject: Subject, budget: Budget) -> Forecast | None:
    """Every layer that may get factors saves one share of its MACs, or what its bound says.

    ``None`` where ranks alone do not reach the saving.
    """
    graph = subject.graph
    taking = set(factorable(subject.model, graph))
    goal = (1 - SAVED.value(budget.asks)) * graph.macs * (1 + _ROUNDING)

    def ranks(step: int) -> dict[str, int]:
        pairs = ((layer, budget.layers.get(layer.name, {}).get("sparsity")) for layer in graph.layers)
        chosen = {layer.name: _rank(layer, step / STEPS, bound) for layer, bound in pairs}
        return {name: rank for name, rank in chosen.items() if rank and name in taking}

    step = bisect_left(range(STEPS + 1), True, key=lambda step: _macs(graph, ranks(step)) <= goal)
    if step > STEPS:
        return None
    bounded = {name for name, entry in budget.layers.items() if "sparsity" in entry}
    return _forecast(graph, budget, _filled(graph, ranks(step), goal, bounded))


def _sizes(layer: Layer) -> tuple[int, int]:
    """(n, d)."""
    return layer.shape[0], math.prod(layer.shape[1:])


def _rank(layer: Layer, saved: float, bound: float | None) -> int:
    """The largest rank that saves what the layer's bound says or, where it has none, this share of its MACs: then at
    least 1. 0: the layer stays whole."""
    n, d = _sizes(layer)
    if bound is not None:
        return rank_saving(n, d, bound) if bound else 0
    return max(1, rank_saving(n, d, saved)) if saved and largest_saving(n, d) else 0


def _filled(graph: Graph, ranks: Mapping[str, int], goal: float, bounded: Collection[str]) -> dict[str, int]:
    """Ranks with what rounding down left over given back: one component more where a layer has the least of its MACs,
    as long as the whole stays within ``goal``."""
    filled, macs = dict(ranks), _macs(graph, dict(ranks))
    open_layers = {layer.name: layer for layer in graph.layers if layer.name in filled and layer.name not in bounded}
    while open_layers:
        layer = min(open_layers.values(), key=lambda layer: _share(layer, filled))
        n, d = _sizes(layer)
        price = layer.macs * (n + d) / (n * d)
        if filled[layer.name] < largest_saving(n, d) and macs + price <= goal:
            filled[layer.name] += 1
            macs += price
        else:
            del open_layers[layer.name]
    return filled


def _macs(graph: Graph, ranks: dict[str, int]) -> float:
    return sum(layer.macs * _share(layer, ranks) for layer in graph.layers)


def _share(layer: Layer, ranks: dict[str, int]) -> float:
    """How many weights and MACs a layer has of those before."""
    n, d = _sizes(layer)
    return ranks[layer.name] * (n + d) / (n * d) if layer.name in ranks else 1.0


def _forecast(graph: Graph, budget: Budget, ranks: dict[str, int]) -> Forecast:
    dense, layers = cost(graph), []
    macs = bops = nominal = weights = 0.0
    for layer in graph.layers:
        numel, share = math.prod(layer.shape), _share(layer, ranks)
        bits = (WEIGHT_BITS.layer_limits(budget.asks, budget.layers, layer.name) or (32.0, 32.0))[1]
        size = numel * share * bits / 8
        layers.append(
            LayerForecast(layer.name, FLOAT_BYTES * numel, size, size, layer.shape, layer.shape, (bits, bits))
        )
        macs += layer.macs * share
        bops += layer.macs * share * bits * 32
        weights += numel * share - numel
        nominal += size + FLOAT_BYTES * (2 if layer.name in ranks else 1) - FLOAT_BYTES * numel
    total = dense.nominal_bytes + nominal
    counted = Cost(int(dense.params + weights), macs, bops, bops / (dense.bops or 1.0), total, 0.0)
    note = "Counted as if every layer saved the same share by its rank; the run shares it out, units included."
    return Forecast("even", dense, counted, counted, (total, total), layers=tuple(layers), notes=(note,))
