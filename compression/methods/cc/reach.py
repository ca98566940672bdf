"""What units and ranks can save of a network at most, and bounds that cannot hold: refused before a run."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from torch import nn

from compression.asks import MACS
from compression.budget import Budget
from compression.counting.cost import remaining_macs, remaining_shapes
from compression.errors import CompressionError
from compression.graph import Graph, factorable
from compression.methods.cc.options import SAVED, WEIGHT_BITS, CcOptions
from compression.posttraining.low_rank import largest_saving, rank_saving
from compression.pruning.choose import UnitLimits, unit_bounds

_ROUNDING = 1e-9


def refuse_impossible(model: nn.Module, graph: Graph, budget: Budget, options: CcOptions) -> None:
    """Refuse bounds of layers that a network does not have, and what :func:`refuse_unreachable` refuses.

    Raises:
        CompressionError: naming the layer or group, or the most that can be saved.
    """
    WEIGHT_BITS.widths(budget.asks, budget.layers, [layer.name for layer in graph.layers])
    refuse_unreachable(graph, budget, options, factorable(model, graph))


def refuse_unreachable(graph: Graph, budget: Budget, options: CcOptions, layers: Collection[str]) -> None:
    """Refuse a saving that no units and ranks reach, and bounds that no rank of a layer holds.

    ``layers``: those that may get factors.

    Raises:
        CompressionError: naming the layer, or the most that can be saved.
    """
    limits = UnitLimits.from_groups(graph.prunable, unit_bounds(budget.groups))
    _refuse_bounds(graph, budget, layers, _counts(graph, limits.lowest))
    share, least = SAVED.value(budget.asks), _least_share(graph, budget, options, layers, limits)
    if least > (1 - share) * (1 + _ROUNDING):
        most = int(1000 * (1 - least)) / 10
        raise CompressionError(
            f"{MACS}: {100 * share:.4g} % cannot be saved with units {options.units!r}{_bounded(budget)}: at most "
            f"{most:g} % can be: choose at most that"
        )


def _bounded(budget: Budget) -> str:
    """Words for the bounds that a budget has."""
    layers = any("sparsity" in entry for entry in budget.layers.values())
    groups = any(bounds != (0.0, 1.0) for bounds in unit_bounds(budget.groups).values())
    kinds = [kind for kind, has in (("layers", layers), ("groups", groups)) if has]
    return f" and the bounds of {' and '.join(kinds)}" if kinds else ""


def _refuse_bounds(graph: Graph, budget: Budget, layers: Collection[str], removed: Mapping[str, int]) -> None:
    """``removed``: the fewest units; layers are largest with them, and a rank saves most of a large layer."""
    shapes = remaining_shapes(graph, removed)
    weights = {layer.name: layer.weight for layer in graph.layers}
    for name, entry in budget.layers.items():
        saved = entry.get("sparsity")
        if not saved:
            continue
        if name not in layers:
            raise CompressionError(f"layers.{name}.sparsity: this layer cannot be split into factors: remove the bound")
        n, d = _sizes(shapes[weights[name]])
        if rank_saving(n, d, saved) < 1:
            most = max(0, math.floor(1000 * (1 - (n + d) / (n * d)) + _ROUNDING)) / 1000
            raise CompressionError(
                f"layers.{name}.sparsity: {saved:g} of this layer cannot be saved: rank 1 saves {most:g}: "
                "choose at most that"
            )


def _least_share(
    graph: Graph, budget: Budget, options: CcOptions, layers: Collection[str], limits: UnitLimits
) -> float:
    """The least share of the MACs to which units and ranks can bring a network, within the bounds of the budget."""
    factored = [] if options.units == "all" else layers
    ends = (limits.lowest,) if options.units == "none" else (limits.lowest, limits.highest)
    return min(_least_macs(graph, _counts(graph, units), budget, factored) for units in ends) / max(graph.macs, 1)


def _least_macs(graph: Graph, removed: Mapping[str, int], budget: Budget, layers: Collection[str]) -> float:
    """The MACs at rank 1 of every layer that may be factored; infinite where ``removed`` breaks a layer's bound."""
    shapes, macs = remaining_shapes(graph, removed), remaining_macs(graph, removed)
    for layer in graph.layers:
        saved = budget.layers.get(layer.name, {}).get("sparsity")
        n, d = _sizes(shapes[layer.weight])
        if layer.name not in layers or saved == 0:
            continue
        if saved and rank_saving(n, d, saved) < 1:
            return math.inf
        if largest_saving(n, d):
            macs[layer.name] *= (rank_saving(n, d, saved) if saved else 1) * (n + d) / (n * d)
    return float(sum(macs.values()))


def _counts(graph: Graph, units: Collection[int]) -> dict[str, int]:
    return {group.id: count for group, count in zip(graph.prunable, units, strict=True)}


def _sizes(shape: tuple[int, ...]) -> tuple[int, int]:
    """(n, d)."""
    return shape[0], math.prod(shape[1:])
