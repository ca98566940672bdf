"""How many units are removed, and when: an exact number of them, or as many as a share of the MACs or BOPs takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

from compression.asks import BOPS_SAVED, MACS_SAVED, UNITS_REMOVED, BitsAsk
from compression.budget import Budget
from compression.counting.cost import Bits, cost, inputs_in_float
from compression.errors import CompressionError
from compression.graph.types import Graph
from compression.pruning.choose import UnitLimits, choose_units, target_units, unit_bounds
from compression.pruning.unit_cost import UnitPrices

_ROUNDING = 1e-9


class UnitTarget(Protocol):
    """What is to be removed in the end."""

    @property
    def units(self) -> int | None:
        """How many units that is; ``None``: known when they have been chosen."""

    def removes(self, limits: UnitLimits) -> bool:
        """Whether anything is removed at all."""

    def check(self, limits: UnitLimits) -> None:
        """Refuse what these limits cannot give.

        Raises:
            CompressionError: saying what they can.
        """

    def due(self, group_of: Sequence[int], removed: torch.Tensor, limits: UnitLimits, share: float) -> bool:
        """Whether units have to be chosen so that ``share`` of the removal is done."""

    def choose(
        self,
        scores: torch.Tensor,
        group_of: Sequence[int],
        removed: torch.Tensor,
        limits: UnitLimits,
        share: float,
        prices: UnitPrices | None = None,
    ) -> list[int]:
        """The next units to remove, least score first, so that ``share`` of the removal is done; see
        :func:`compression.pruning.choose.choose_units`."""


@dataclass(frozen=True)
class UnitCount:
    """Exactly ``units`` units."""

    units: int

    @classmethod
    def of_share(cls, sparsity: float, units: int) -> UnitCount:
        """K = ⌊sparsity · N⌋."""
        return cls(target_units(sparsity, units))

    def removes(self, limits: UnitLimits) -> bool:
        """Whether K is above 0."""
        return self.units > 0

    def check(self, limits: UnitLimits) -> None:
        """See :meth:`.choose.UnitLimits.check`."""
        limits.check(self.units)

    def due(self, group_of: Sequence[int], removed: torch.Tensor, limits: UnitLimits, share: float) -> bool:
        """Whether fewer than ⌊K · share⌋ units are removed."""
        return int(removed.sum()) < target_units(share, self.units)

    def choose(
        self,
        scores: torch.Tensor,
        group_of: Sequence[int],
        removed: torch.Tensor,
        limits: UnitLimits,
        share: float,
        prices: UnitPrices | None = None,
    ) -> list[int]:
        """So many units that ⌊K · share⌋ are removed."""
        number = max(0, target_units(share, self.units) - int(removed.sum()))
        return choose_units(scores, group_of, removed, limits, self.units, number, prices)


@dataclass(frozen=True)
class CostShare:
    """As many units as it takes to save ``share`` of the dense network's ``kind``: what remains is that, or just below.

    ``kind``: ``macs`` or ``bops``; ``bits``: layer → the (weight, activation) bits that its BOPs are counted with.
    """

    graph: Graph
    kind: str
    share: float
    bits: Bits | None = None

    @property
    def units(self) -> None:
        """Which units go decides how many they are."""
        return None

    def removes(self, limits: UnitLimits) -> bool:
        """Whether bits alone do not save enough, or a group has to lose units."""
        return any(limits.lowest) or not self.reached([0] * len(limits.lowest))

    def check(self, limits: UnitLimits) -> None:
        """Refuse a share that is not reached with one unit remaining in every group and the bounds of single groups.

        Raises:
            CompressionError: saying which share is.
        """
        least = self._remaining(self._named(limits.highest))
        if least > self._goal(1.0):
            most = int(1000 * (1 - least / self._dense)) / 10
            why = " and the bounds of single groups" if limits.bounded else ""
            fewer = ", or fewer bits" if self.kind == "bops" else ""
            raise CompressionError(
                f"{self.kind}: {100 * self.share:.4g} % cannot be saved: with one unit remaining in every "
                f"group{why} at most {most:g} % can be: choose at most that{fewer}"
            )

    def reached(self, counts: Sequence[int], share: float = 1.0) -> bool:
        """Whether ``share`` of it is saved without so many units of each prunable group."""
        return self._remaining(self._named(counts)) <= self._goal(share) * (1 + _ROUNDING)

    def due(self, group_of: Sequence[int], removed: torch.Tensor, limits: UnitLimits, share: float) -> bool:
        """Whether less is saved, or at the end a group has fewer units removed than its bounds ask."""
        counts = _counts(group_of, removed)
        return not self.reached(counts, share) or (share >= 1 and bool(_owed(counts, limits)))

    def choose(
        self,
        scores: torch.Tensor,
        group_of: Sequence[int],
        removed: torch.Tensor,
        limits: UnitLimits,
        share: float,
        prices: UnitPrices | None = None,
    ) -> list[int]:
        """The fewest units in the order of scores that save ``share`` of what is to be saved in all; at the end without
        those that are not needed, as the last one may have saved much at once.
        """
        # 1. Every unit that the limits still allow, least score first
        most = sum(limits.highest)
        order = choose_units(scores, group_of, removed, limits, most, most - int(removed.sum()), prices)

        # 2. What remains falls with every further unit: bisect for the first prefix at or below the goal
        def enough(number: int) -> bool:
            after = _counts(group_of, removed)
            for unit in order[:number]:
                after[group_of[unit]] += 1
            return self.reached(after, share)

        number = bisect_left(range(len(order)), True, key=enough)
        chosen = order[:number]
        # 3. At the end no unit goes that could stay, dearest first, and every group has its lowest number
        if share >= 1:
            chosen = self._needed(chosen, group_of, removed, limits)
            owed = _owed(_counts(group_of, removed, chosen), limits)
            for unit in order[number:]:
                if owed.get(group_of[unit], 0) > 0:
                    owed[group_of[unit]] -= 1
                    chosen.append(unit)
        return chosen

    def _needed(
        self, chosen: list[int], group_of: Sequence[int], removed: torch.Tensor, limits: UnitLimits
    ) -> list[int]:
        """``chosen`` without the units that can stay: those of highest score are tried first."""
        counts, needed, tight = _counts(group_of, removed, chosen), [], set[int]()
        for unit in reversed(chosen):
            group = group_of[unit]
            counts[group] -= 1
            # a group whose units are needed stays so: the others that stay only take room away
            if group in tight or counts[group] < limits.lowest[group] or not self.reached(counts):
                tight.add(group)
                counts[group] += 1
                needed.append(unit)
        return needed[::-1]

    def _named(self, counts: Sequence[int]) -> dict[str, int]:
        return {group.id: count for group, count in zip(self.graph.prunable, counts, strict=True)}

    def _remaining(self, removed: Mapping[str, int]) -> float:
        counted = cost(self.graph, removed, self.bits if self.kind == "bops" else None)
        return counted.bops if self.kind == "bops" else counted.macs

    @cached_property
    def _dense(self) -> float:
        counted = cost(self.graph)
        return counted.bops if self.kind == "bops" else counted.macs

    @cached_property
    def _before(self) -> float:
        """What remains before any unit leaves: fewer bits save already."""
        return min(self._remaining({}), self._dense)

    def _goal(self, share: float) -> float:
        """From what remains before any unit leaves down to what is to remain."""
        return self._before - (self._before - (1 - self.share) * self._dense) * share


def _counts(group_of: Sequence[int], removed: torch.Tensor, chosen: Sequence[int] = ()) -> list[int]:
    """How many units of each group are removed or chosen."""
    counts = [0] * (max(group_of, default=-1) + 1)
    for unit in (*torch.nonzero(removed).flatten().tolist(), *chosen):
        counts[group_of[unit]] += 1
    return counts


def _owed(counts: Sequence[int], limits: UnitLimits) -> dict[int, int]:
    """Group → how many units it lacks of its lowest number."""
    pairs = enumerate(zip(counts, limits.lowest, strict=True))
    return {index: low - count for index, (count, low) in pairs if low > count}


def unit_target(graph: Graph, budget: Budget, weight_bits: BitsAsk, activation_bits: BitsAsk | None) -> UnitTarget:
    """What the asks ``sparsity``, ``macs`` and ``bops`` of a budget, of which one counts, come to for a network.

    BOPs are counted with the most bits that a layer may end with, by how the method asks for bits.

    Raises:
        CompressionError: more than one of them is set, or a value that one cannot have.
    """

    def most(ask: BitsAsk | None, layer: str) -> float | None:
        limits = None if ask is None else ask.layer_limits(budget.asks, budget.layers, layer)
        return None if limits is None else limits[1]

    in_float = inputs_in_float(graph)
    bits = {
        layer.name: (
            most(weight_bits, layer.name),
            None if layer.name in in_float else most(activation_bits, layer.name),
        )
        for layer in graph.layers
    }
    for ask in (MACS_SAVED, BOPS_SAVED):
        share = ask.value(budget.asks)
        if share is not None:
            return CostShare(graph, ask.field, share, bits)
    return UnitCount.of_share(UNITS_REMOVED.value(budget.asks) or 0.0, graph.prunable_units)


def check_target(graph: Graph, budget: Budget, weight_bits: BitsAsk, activation_bits: BitsAsk | None) -> bool:
    """Whether units are removed at all (see :func:`unit_target`), if the network and the bounds of groups allow it.

    Raises:
        CompressionError: they do not, or as :func:`unit_target`.
    """
    target = unit_target(graph, budget, weight_bits, activation_bits)
    limits = UnitLimits.from_groups(graph.prunable, unit_bounds(budget.groups))
    target.check(limits)
    return target.removes(limits)
