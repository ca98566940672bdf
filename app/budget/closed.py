"""The closed form of methods of single weights: zeros, bits and steps from the trained weights, as sliders move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import live, words
from app.budget import method_catalog
from app.budget.planned import FLOAT_BYTES, Plan, layer_range
from app.model import catalog
from compression.budget import Budget
from compression.plots.plan import LayerPlan

BYTES = 7 * live.WEIGHTS  # of a parameter: itself, five times itself in the tables, once more for channels

if TYPE_CHECKING:
    from compression.graph import Graph
    from compression.methods.opq import Allocation, LayerTables


def form(of: catalog.Subject, path: Path | None, graph: Graph, budget: Budget) -> Plan:
    """The plan of OPQ and other methods of single weights: each layer's zeros, bits and step, and the exact error.

    It is made on the trained weights, on seeded initial ones when there are none.

    Raises:
        CompressionError: bounds that cannot be met.
    """
    from compression.counting.cost import cost

    found, energy = _allocation(of, path, budget)
    acts = method_catalog.uses(budget.method).activations
    bits: dict[str, tuple[float | None, float | None]] = {
        p.name: (p.bits, ends[0] if acts and (ends := layer_range(budget, p.name, "activation_bits")) else None)
        for p in found.layers
    }
    counted = cost(graph, {}, bits)
    coded = [
        (plan.numel - plan.pruned) * plan.bits / 8 + _position_bytes(plan.numel, plan.pruned) for plan in found.layers
    ]
    leftovers = FLOAT_BYTES * (graph.params - found.numel + sum(p.floats for p in found.layers))
    total = sum(coded) + leftovers
    layers = tuple(
        LayerPlan(
            p.name, FLOAT_BYTES * p.numel, size, size,
            f"<b>{p.name}</b><br>{_zeros(p.pruned, p.numel, p.bits)}<br>"
            f"{words.size(FLOAT_BYTES * p.numel)} → {words.size(size)}",
        )
        for p, size in zip(found.layers, coded, strict=True)
    )  # fmt: skip
    notes = (*found.notes, _how(found)) if budget.method == "opq" else found.notes
    return Plan(cost(graph), counted, counted, (total, total), {}, layers, _table(found), found.error / energy, notes)


def _zeros(pruned: int, numel: int, bits: int) -> str:
    if not pruned:
        return f"{numel:,} weights of {bits} bits"
    return f"{words.share(pruned / numel)} of {numel:,} weights at zero, {bits} bits for the others"


def _table(found: Allocation) -> tuple[dict[str, Any], ...]:
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
            **({} if p.offset is None else {"offset": float(f"{p.offset:.4g}")}),
            **({} if p.scales is None else {"scales": len(p.scales)}),
        }
        for p in found.layers
    )


def _allocation(of: catalog.Subject, path: Path | None, budget: Budget) -> tuple[Allocation, float]:
    from compression.methods.opq.options import options

    chosen = options(budget) if budget.method == "opq" else {}
    skipped = tuple(sorted(chosen.pop("skip", ())))
    prepared = _tables(
        of, str(path) if path else None, path.stat().st_mtime if path else 0.0, skipped,
        chosen.get("codebook") == "channel",
    )  # fmt: skip
    energy = sum(float(table.second[-1]) for table in prepared.layers)
    return _answer(prepared, budget, chosen), energy or 1.0


def _answer(prepared: LayerTables, budget: Budget, chosen: Mapping[str, Any]) -> Allocation:
    """The closed form of the budget's method on prepared tables; what none is known of is answered as OPQ.

    ``chosen`` are OPQ's options. The exact answer takes about 0.2 s for 25 M weights (BENCHMARKS.md), so that sliders
    can be followed without a quicker one.
    """
    from compression.methods import magnitude, ptq
    from compression.methods.opq import allocate_from

    if budget.method == "ptq":
        return ptq.plan(prepared, budget)
    if budget.method == "magnitude":
        return magnitude.smallest_weights(prepared, budget)
    return allocate_from(prepared, budget.sparsity, budget.bits, budget.layers, **chosen)


def _how(found: Allocation) -> str:
    """Whether this is the best there is for these weights, or how far from it the answer may be."""
    if found.exact:
        return "Exact: each step is the best for its layer's weights, and no other bits within the budget err less."
    return f"Quick: steps by the Laplace model; other bits could err at most {100 * found.gap:.2g} % less."


def too_large(of: catalog.Subject, budget: Budget) -> bool:
    """Would the closed form of this budget take more memory than the server gives?"""
    return not method_catalog.get(budget.method).structured and not live.memory().fits(_need(of))


def _need(of: catalog.Subject) -> int:
    return BYTES * catalog.traced(of).graph.params


def _tables(
    of: catalog.Subject, path: str | None, changed: float, skipped: tuple[str, ...], channels: bool
) -> LayerTables:
    from compression.methods.opq import LayerTables

    key = ("tables", of, path, changed, skipped, channels)
    with st.spinner("Reading the weights…"):
        return live.memory().hold(
            key, of.model, _need(of), lambda: LayerTables.prepare(catalog.loaded(of, path), skipped, channels)
        )


def _position_bytes(numel: int, zeros: int) -> float:
    """Bytes an ideal coder needs to say which weights are zero."""
    share = zeros / numel if numel else 0.0
    if share in (0.0, 1.0):
        return 0.0
    return -numel * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
