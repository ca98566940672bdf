"""How many units are removed, and when: an exact number of them, or as many as a share of the MACs or BOPs takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from compression.counting.cost import Bits, cost
from compression.errors import CompressionError
from compression.graph.types import Graph
from compression.pruning.choose import UnitLimits, choose_units, target_units

_ROUNDING = 1e-9
LINEAR, CUBIC = "linear", "cubic"
RISES: Mapping[str, int] = {LINEAR: 1, CUBIC: 3}
"""How removal rises over the periods → p of 1 - (1 - x)^p, the share that is removed after the share x of them."""


def risen(rise: str, done: int, periods: int) -> float:
    """The share of all removal that is due after ``done`` of ``periods`` periods."""
    return 1.0 - (1.0 - done / periods) ** RISES[rise]


class UnitTarget(Protocol):
    """What is to be removed in the end."""

    @property
    def units(self) -> int | None:
        """How many units that is; ``None``: known when they have been chosen."""

    def __bool__(self) -> bool:
        """Whether anything is removed at all."""

    def check(self, limits: UnitLimits) -> None:
        """Refuse what these limits cannot give.

        Raises:
            CompressionError: saying what they can.
        """

    def choose(
        self, scores: torch.Tensor, group_of: Sequence[int], removed: torch.Tensor, limits: UnitLimits, share: float
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

    def __bool__(self) -> bool:
        return self.units > 0

    def check(self, limits: UnitLimits) -> None:
        """See :meth:`.choose.UnitLimits.check`."""
        limits.check(self.units)

    def choose(
        self, scores: torch.Tensor, group_of: Sequence[int], removed: torch.Tensor, limits: UnitLimits, share: float
    ) -> list[int]:
        """So many units that ⌊K · share⌋ are removed."""
        due = target_units(share, self.units) - int(removed.sum())
        return choose_units(scores, group_of, removed, limits, self.units, due) if due > 0 else []


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

    def __bool__(self) -> bool:
        return self._remaining({}) > self._goal(1.0)

    def check(self, limits: UnitLimits) -> None:
        """Refuse a share that is not reached with one unit remaining in every group and the bounds of single groups.

        Raises:
            CompressionError: saying which share is.
        """
        least = self._remaining(self._named(limits.highest))
        if least > self._goal(1.0):
            most = int(1000 * (1 - least / self._dense())) / 10
            why = " and the bounds of single groups" if limits.bounded else ""
            fewer = ", or fewer bits" if self.kind == "bops" else ""
            raise CompressionError(
                f"{self.kind}: {100 * self.share:.4g} % cannot be saved: with one unit remaining in every "
                f"group{why} at most {most:g} % can be: choose at most that{fewer}"
            )

    def choose(
        self, scores: torch.Tensor, group_of: Sequence[int], removed: torch.Tensor, limits: UnitLimits, share: float
    ) -> list[int]:
        """The fewest units in the order of scores that save ``share`` of what is to be saved in all."""
        # 1. Every unit that the limits still allow, least score first
        most = sum(limits.highest)
        order = choose_units(scores, group_of, removed, limits, most, most - int(removed.sum()))
        counts = [0] * len(limits.lowest)
        for unit in torch.nonzero(removed).flatten().tolist():
            counts[group_of[unit]] += 1

        # 2. Remaining cost falls with every further unit: bisect for the first prefix at or below the goal
        def saved(number: int) -> bool:
            after = list(counts)
            for unit in order[:number]:
                after[group_of[unit]] += 1
            return self._remaining(self._named(after)) <= self._goal(share) * (1 + _ROUNDING)

        chosen = order[: bisect_left(range(len(order)), True, key=saved)]
        # 3. At the end every group has its lowest number, too
        if share >= 1:
            for unit in chosen:
                counts[group_of[unit]] += 1
            for unit in order[len(chosen) :]:
                if counts[group_of[unit]] < limits.lowest[group_of[unit]]:
                    chosen.append(unit)
                    counts[group_of[unit]] += 1
        return chosen

    def _named(self, counts: Sequence[int]) -> dict[str, int]:
        return {group.id: count for group, count in zip(self.graph.prunable, counts, strict=True)}

    def _remaining(self, removed: Mapping[str, int]) -> float:
        counted = cost(self.graph, removed, self.bits if self.kind == "bops" else None)
        return counted.bops if self.kind == "bops" else counted.macs

    def _dense(self) -> float:
        counted = cost(self.graph)
        return counted.bops if self.kind == "bops" else counted.macs

    def _goal(self, share: float) -> float:
        """From what remains before any unit leaves (fewer bits save already) down to what is to remain."""
        before = min(self._remaining({}), self._dense())
        goal = (1 - self.share) * self._dense()
        return before - (before - goal) * share
