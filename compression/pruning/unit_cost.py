"""What one more unit of each group costs: the multiply-accumulates or parameters that are removed with it."""

from __future__ import annotations

from collections.abc import Sequence

from compression.counting.cost import cost
from compression.errors import CompressionError
from compression.graph.types import Graph

KINDS = ("none", "macs", "parameters")


def unit_costs(graph: Graph, removed: Sequence[int], kind: str) -> list[float]:
    """Per prunable group, the share of the dense network that is removed with its next unit, in (0, 1].

    Args:
        graph: of the dense network.
        removed: how many units of each prunable group are removed already: a unit costs less in a thinner network.
        kind: ``macs``, ``parameters``, or ``none`` for 1 everywhere.

    Raises:
        CompressionError: unknown ``kind``.
    """
    if kind not in KINDS:
        raise CompressionError(f"cost must be one of {', '.join(KINDS)}, not {kind!r}")
    groups = graph.prunable
    if kind == "none":
        return [1.0] * len(groups)
    counts = {group.id: count for group, count in zip(groups, removed, strict=True)}
    before, whole = _removed(graph, counts, kind), _removed(graph, {}, kind)
    costs = []
    for group in groups:
        one_more = min(counts[group.id] + 1, group.units)
        saved = before - _removed(graph, {**counts, group.id: one_more}, kind)
        costs.append(max(saved, 1.0) / whole)
    return costs


def _removed(graph: Graph, removed: dict[str, int], kind: str) -> float:
    counted = cost(graph, removed)
    return counted.macs if kind == "macs" else float(counted.params)
