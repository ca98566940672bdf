"""What one more unit of each group is worth: the multiply-accumulates or parameters that leave with it."""

from __future__ import annotations

from collections.abc import Sequence

from compression.counting.cost import cost
from compression.errors import CompressionError
from compression.graph.types import Graph

KINDS = ("none", "macs", "parameters")


def unit_prices(graph: Graph, removed: Sequence[int], kind: str) -> list[float]:
    """Per prunable group, the share of the dense network that its next unit takes along, in (0, 1].

    Args:
        graph: of the dense network.
        removed: how many units of each prunable group are gone already: a unit is worth less in a thinner network.
        kind: ``macs``, ``parameters``, or ``none`` for 1 everywhere.

    Raises:
        CompressionError: unknown ``kind``.
    """
    if kind not in KINDS:
        raise CompressionError(f"cost must be one of {', '.join(KINDS)}, not {kind!r}")
    groups = graph.prunable
    if kind == "none":
        return [1.0] * len(groups)
    gone = {group.id: count for group, count in zip(groups, removed, strict=True)}
    before, whole = _taken(graph, gone, kind), _taken(graph, {}, kind)
    prices = []
    for group in groups:
        one_more = min(gone[group.id] + 1, group.units)
        saved = before - _taken(graph, {**gone, group.id: one_more}, kind)
        prices.append(max(saved, 1.0) / whole)
    return prices


def _taken(graph: Graph, removed: dict[str, int], kind: str) -> float:
    counted = cost(graph, removed)
    return counted.macs if kind == "macs" else float(counted.params)
