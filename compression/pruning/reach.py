"""How much sparsity a network and the bounds of a budget leave room for: where a slider begins and ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.graph import Graph
from compression.pruning.choose import UnitLimits
from compression.pruning.weights import KEPT_SHARE

HUNDREDTH, MILLIONTH = 100, 1_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Reach:
    """The least and the most sparsity, as shares in 0..1; ``bounded``: narrowed by bounds of groups or layers."""

    least: float
    most: float
    bounded: bool

    @property
    def ends(self) -> tuple[float, float]:
        """The same in whole hundredths, all of which can be reached; nearly one point where none lies between."""
        low, high = _up(self.least, HUNDREDTH), math.floor(self.most * HUNDREDTH + _ROUNDING) / HUNDREDTH
        return (low, high) if low < high else (_up(self.least, MILLIONTH), _up(self.most, MILLIONTH))


def reach(graph: Graph, groups: Mapping[str, Any], layers: Mapping[str, Any], structured: bool) -> Reach:
    """What can be asked of units (``structured``: with bounds of ``groups``) or of single weights (of ``layers``).

    Raises:
        CompressionError: bounds that no whole number of units satisfies.
    """
    return _of_units(graph, groups) if structured else _of_weights(graph, layers)


def _of_units(graph: Graph, groups: Mapping[str, Any]) -> Reach:
    bounds = {name: tuple(entry["sparsity"]) for name, entry in groups.items() if "sparsity" in entry}
    limits = UnitLimits.from_groups(graph.prunable, bounds)
    units = limits.units or 1
    return Reach(sum(limits.lowest) / units, sum(limits.highest) / units, bool(bounds))


def _of_weights(graph: Graph, layers: Mapping[str, Any]) -> Reach:
    fixed = {name: float(entry["sparsity"]) for name, entry in layers.items() if entry.get("sparsity") is not None}
    sizes = {layer.name: math.prod(layer.shape) for layer in graph.layers}
    total = sum(sizes.values()) or 1
    held = sum(fixed[name] * size for name, size in sizes.items() if name in fixed)
    free = sum(size for name, size in sizes.items() if name not in fixed)
    return Reach(held / total, (held + (1 - KEPT_SHARE) * free) / total, bool(fixed))


def _up(share: float, parts: int) -> float:
    return math.ceil(share * parts - _ROUNDING) / parts
