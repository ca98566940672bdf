"""What a budget comes to before any training: counted where units go, the closed form where single weights do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from app import words
from app.budget import closed, method_catalog
from app.budget.planned import FLOAT_BYTES, Plan, layer_range
from app.model import catalog
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots.plan import LayerPlan

if TYPE_CHECKING:
    from compression.graph import Graph


def make(of: catalog.Subject, path: Path | None, graph: Graph, budget: Budget) -> Plan:
    """The plan of the budget's method.

    Raises:
        CompressionError: bounds that cannot be met.
    """
    return geta(graph, budget) if method_catalog.get(budget.method).structured else closed.form(of, path, graph, budget)


def geta(graph: Graph, budget: Budget) -> Plan:
    """The plan of GETA and other structured methods: exactly K units, spread evenly over the groups in their bounds.

    Bits lie between both ends, or are the method's own equal ones. Which units really go is decided while the run goes,
    so sizes and MACs are those of an even one.

    Raises:
        CompressionError: bounds that no choice of units satisfies, or that name what this network does not have.
    """
    from compression.counting.cost import cost

    _known(graph, budget)
    removed, steps = spread(graph, budget), _steps(graph, budget)
    ends = [cost(graph, removed, _bits(graph, budget, end), steps) for end in (0, 1)]
    layers = tuple(_geta_layers(graph, budget, removed))
    return Plan(
        dense=cost(graph),
        low=ends[0],
        high=ends[1],
        bytes=(ends[0].nominal_bytes, ends[1].nominal_bytes),
        removed=removed,
        layers=layers,
        table=tuple(
            {"layer": p.layer, "dense bytes": round(p.dense), "least bytes": round(p.low), "most bytes": round(p.high)}
            for p in layers
        ),
    )


def spread(graph: Graph, budget: Budget) -> dict[str, int]:
    """Exactly K units over the prunable groups: the same share for all, except where a bound or rounding asks.

    Raises:
        CompressionError: the bounds cannot give K.
    """
    from compression.pruning.choose import Limits, target_units

    groups = graph.prunable
    bounds = {
        name: (bound["sparsity"][0], bound["sparsity"][1])
        for name, bound in budget.groups.items()
        if "sparsity" in bound
    }
    limits = Limits.of(groups, bounds)
    target = target_units(budget.sparsity, graph.prunable_units)
    limits.check(target)
    counts = list(limits.lowest)
    open_groups = [i for i in range(len(groups)) if counts[i] < limits.highest[i]]
    while sum(counts) < target:  # the group whose share is lowest gives the next unit
        next_one = min(open_groups, key=lambda i: (counts[i] / groups[i].units, -groups[i].units))
        counts[next_one] += 1
        if counts[next_one] == limits.highest[next_one]:
            open_groups.remove(next_one)
    return {group.id: count for group, count in zip(groups, counts, strict=True)}


def _known(graph: Graph, budget: Budget) -> None:
    names = {layer.name for layer in graph.layers}
    for name in budget.layers:
        if name not in names:
            raise CompressionError(f"layers: {budget.model} has no layer {name!r}; remove this bound")


def _bits(graph: Graph, budget: Budget, end: int) -> dict[str, tuple[float | None, float | None]]:
    def pick(layer: str, field: str) -> float | None:
        bounds = layer_range(budget, layer, field)
        return bounds[end] if bounds else None

    return {
        layer.name: (pick(layer.name, "weight_bits"), pick(layer.name, "activation_bits")) for layer in graph.layers
    }


def _steps(graph: Graph, budget: Budget) -> dict[str, int]:
    """The layers whose channels each have a step of their own, and along which dimension: all or none."""
    from compression.counting.cost import output_axes
    from compression.methods.geta.options import CHANNEL, settings

    per_channel = budget.method == "geta" and settings(budget).weights == CHANNEL
    return output_axes(graph) if per_channel else {}


def _geta_layers(graph: Graph, budget: Budget, removed: Mapping[str, int]) -> list[LayerPlan]:
    from compression.counting.cost import remaining_shapes

    shapes = remaining_shapes(graph, removed)
    plans = []
    for layer in graph.layers:
        bounds = layer_range(budget, layer.name, "weight_bits") or (32, 32)
        before, left = math.prod(layer.shape), math.prod(shapes[layer.weight])
        sentence = (
            f"<b>{layer.name}</b><br>{words.shape(layer.shape)} → {words.shape(shapes[layer.weight])}, "
            f"{words.bits(bounds)}<br>{words.size(FLOAT_BYTES * before)} → {words.size(left * bounds[0] / 8)} "
            f"to {words.size(left * bounds[1] / 8)}"
        )
        plans.append(LayerPlan(layer.name, FLOAT_BYTES * before, left * bounds[0] / 8, left * bounds[1] / 8, sentence))
    return plans
