"""What a budget comes to before any training: counted for GETA, the closed form for OPQ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import streamlit as st

from app import catalog
from app import words
from app.figures.plan import LayerPlan
from compression.budget import Budget
from compression.errors import CompressionError

if TYPE_CHECKING:
    from compression.cost import Cost
    from compression.graph import Graph
    from compression.methods.opq import Allocation
    from compression.methods.opq import LayerTables

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """``low`` and ``high`` are the cost at the lower and the upper bit-widths (equal for OPQ, whose bits are decided).

    ``bytes`` are (low, high) sizes; ``error`` is OPQ's Σ(w - ŵ)² relative to Σw²; ``notes`` say where the budget could
    not be followed to the letter.
    """

    dense: Cost
    low: Cost
    high: Cost
    bytes: tuple[float, float]
    removed: Mapping[str, int]
    layers: tuple[LayerPlan, ...]
    table: tuple[Mapping[str, Any], ...]
    error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """How many units go."""
        return sum(self.removed.values())


def geta(graph: Graph, budget: Budget) -> Plan:
    """GETA's plan: exactly K units, spread evenly over the groups within their bounds; bits between both ends.

    Which units really go is decided by their saliency while the run goes, so sizes and MACs are those of an even one.

    Raises:
        CompressionError: bounds that no choice of units satisfies, or that name what this network does not have.
    """
    from compression.cost import cost

    _known(graph, budget)
    removed = spread(graph, budget)
    ends = [cost(graph, removed, _bits(graph, budget, end)) for end in (0, 1)]
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
    from compression.methods.geta.partition import Limits
    from compression.methods.geta.partition import target_units

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


def _range(budget: Budget, layer: str, field: str) -> tuple[float, float] | None:
    default = budget.weight_bits if field == "weight_bits" else budget.activation_bits
    if default is None:
        return None
    low, high = budget.layers.get(layer, {}).get(field) or default
    return math.ceil(low), math.floor(high)


def _bits(graph: Graph, budget: Budget, end: int) -> dict[str, tuple[float | None, float | None]]:
    def pick(layer: str, field: str) -> float | None:
        bounds = _range(budget, layer, field)
        return bounds[end] if bounds else None

    return {
        layer.name: (pick(layer.name, "weight_bits"), pick(layer.name, "activation_bits")) for layer in graph.layers
    }


def _geta_layers(graph: Graph, budget: Budget, removed: Mapping[str, int]) -> list[LayerPlan]:
    from compression.cost import remaining_shapes

    shapes = remaining_shapes(graph, removed)
    plans = []
    for layer in graph.layers:
        bounds = _range(budget, layer.name, "weight_bits") or (32, 32)
        before, left = math.prod(layer.shape), math.prod(shapes[layer.weight])
        sentence = (
            f"<b>{layer.name}</b><br>{words.shape(layer.shape)} → {words.shape(shapes[layer.weight])}, "
            f"{words.bits(bounds)}<br>{words.size(FLOAT_BYTES * before)} → {words.size(left * bounds[0] / 8)} "
            f"to {words.size(left * bounds[1] / 8)}"
        )
        plans.append(LayerPlan(layer.name, FLOAT_BYTES * before, left * bounds[0] / 8, left * bounds[1] / 8, sentence))
    return plans


def opq(of: catalog.Subject, path: Path | None, graph: Graph, budget: Budget) -> Plan:
    """OPQ's plan on the trained weights (seeded initial ones when there are none): each layer's zeros, bits and step.

    Raises:
        CompressionError: bounds that cannot be met.
    """
    from compression.cost import cost

    found, energy = _allocation(of, path, budget)
    bits: dict[str, tuple[float | None, float | None]] = {p.name: (p.bits, None) for p in found.layers}
    counted = cost(graph, {}, bits)
    coded = [
        (plan.numel - plan.pruned) * plan.bits / 8 + _position_bytes(plan.numel, plan.pruned) for plan in found.layers
    ]
    leftovers = FLOAT_BYTES * (graph.params - found.numel + len(found.layers))
    total = sum(coded) + leftovers
    layers = tuple(
        LayerPlan(
            p.name, FLOAT_BYTES * p.numel, size, size,
            f"<b>{p.name}</b><br>{words.share(p.pruned / p.numel)} of {p.numel:,} weights at zero, "
            f"{p.bits} bits for the others<br>{words.size(FLOAT_BYTES * p.numel)} → {words.size(size)}",
        )
        for p, size in zip(found.layers, coded, strict=True)
    )  # fmt: skip
    return Plan(
        cost(graph), counted, counted, (total, total), {}, layers, _opq_table(found), found.error / energy, found.notes
    )


def _opq_table(found: Allocation) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "layer": p.name,
            "weights": p.numel,
            "at zero": p.pruned,
            "at zero, %": round(100 * p.pruned / p.numel, 1),
            "bits": p.bits,
            "step": float(f"{p.step:.4g}"),
            "threshold": float(f"{p.threshold:.4g}"),
            "squared error": float(f"{p.error:.4g}"),
        }
        for p in found.layers
    )


def _allocation(of: catalog.Subject, path: Path | None, budget: Budget) -> tuple[Allocation, float]:
    from compression.methods.opq import allocate_from

    prepared = _tables(of, str(path) if path else None, path.stat().st_mtime if path else 0.0)
    energy = sum(float(table.second[-1]) for table in prepared.layers)
    exact = prepared.size < 2_000_000
    answer = allocate_from(
        prepared, budget.sparsity, budget.bits, budget.layers, tables="exact" if exact else "laplace"
    )
    return answer, energy or 1.0


@st.cache_resource(max_entries=4, show_spinner="Reading the weights…")
def _tables(of: catalog.Subject, path: str | None, changed: float) -> LayerTables:
    from compression.methods.opq import LayerTables

    return LayerTables.prepare(catalog.loaded(of, path))


def _position_bytes(numel: int, zeros: int) -> float:
    """Bytes an ideal coder needs to say which weights are zero."""
    share = zeros / numel if numel else 0.0
    if share in (0.0, 1.0):
        return 0.0
    return -numel * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
