"""What one more unit of each group costs: the multiply-accumulates or parameters that are removed with it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compression.errors import CompressionError
from compression.graph.types import Graph

KINDS = ("none", "macs", "parameters")


class UnitPrices:
    """What the next unit of each prunable group costs, renewed with every unit that is removed.

    A weight's elements are the product of its dimensions, so only the groups that share a weight with a removed unit
    have another cost afterwards (eq. G14 of ``docs/derivations/geta-joint-step.md``). ``costs``: fp64 [groups], shares
    of the dense network in (0, 1]; they never rise.

    Args:
        graph: of the dense network.
        removed: how many units of each prunable group are removed already: a unit costs less in a thinner network.
        kind: ``macs``, ``parameters``, or ``none`` for 1 everywhere.
        power: the price by which saliency is divided is the cost to this power.

    Raises:
        CompressionError: unknown ``kind``.
    """

    def __init__(self, graph: Graph, removed: Sequence[int], kind: str, power: float = 1.0) -> None:
        if kind not in KINDS:
            raise CompressionError(f"cost must be one of {', '.join(KINDS)}, not {kind!r}")
        self.power, self.costs = power, np.ones(len(graph.prunable))
        self._units = [group.units for group in graph.prunable]
        self._counts = list(removed)
        # What one element of each weight costs, and which groups take how many positions of which dimension
        self._element = _element_costs(graph, kind)
        self._whole = sum(each * math.prod(graph.sizes[name]) for name, each in self._element.items())
        self._sizes = {name: list(graph.sizes[name]) for name in self._element}
        self._takes: list[dict[str, dict[int, int]]] = []
        self._sharing: dict[str, list[int]] = {}
        for index, group in enumerate(graph.prunable):
            takes: dict[str, dict[int, int]] = {}
            for member in group.members:
                if not member.buffer and member.name in self._element:
                    dims = takes.setdefault(member.name, {})
                    dims[member.dim] = dims.get(member.dim, 0) + member.positions.shape[1]
            self._takes.append(takes)
            for name, dims in takes.items():
                self._sharing.setdefault(name, []).append(index)
                for dim, positions in dims.items():
                    self._sizes[name][dim] -= self._counts[index] * positions
        self._saved = [{name: self._saving(index, name) for name in takes} for index, takes in enumerate(self._takes)]
        if kind != "none":
            self._recount(range(len(self._units)))

    @property
    def values(self) -> NDArray[np.float64]:
        """The price of the next unit of each group, fp64 [groups]."""
        return np.asarray(self.costs**self.power)

    def remove(self, group: int) -> None:
        """One more unit of ``group`` is removed."""
        self._counts[group] += 1
        changed = set[int]()
        for name, dims in self._takes[group].items():
            for dim, positions in dims.items():
                self._sizes[name][dim] -= positions
            for other in self._sharing[name]:
                self._saved[other][name] = self._saving(other, name)
            changed.update(self._sharing[name])
        self._recount(changed)

    def copy(self) -> UnitPrices:
        """The same prices, to be renewed separately."""
        return copy.deepcopy(self)

    def _saving(self, group: int, name: str) -> float:
        """What the next unit of ``group`` takes of one weight."""
        takes, before, after = self._takes[group][name], 1, 1
        for dim, size in enumerate(self._sizes[name]):
            before *= size
            after *= size - takes.get(dim, 0)
        return self._element[name] * (before - after)

    def _recount(self, groups: Sequence[int] | set[int]) -> None:
        for index in groups:
            saved = sum(self._saved[index].values()) if self._counts[index] < self._units[index] else 0.0
            self.costs[index] = max(saved, 1.0) / self._whole


def _element_costs(graph: Graph, kind: str) -> dict[str, float]:
    """Weight → the multiply-accumulates (or 1) of each of its elements; empty where nothing counts."""
    if kind == "none":
        return {}
    if kind == "parameters":
        return dict.fromkeys(graph.sizes, 1.0)
    costs: dict[str, float] = {}
    for layer in graph.layers:
        costs[layer.weight] = costs.get(layer.weight, 0.0) + layer.macs / math.prod(layer.shape)
    return costs
