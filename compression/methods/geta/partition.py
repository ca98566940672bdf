"""Choosing exactly K redundant units by least score, whatever the bounds of the single groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compression.errors import CompressionError
from compression.graph.types import Group

_ROUNDING = 1e-9


def target_units(sparsity: float, units: int) -> int:
    """K = ⌊sparsity · N⌋, not misled by binary fractions (0.29 · 100 is 29)."""
    return math.floor(sparsity * units + _ROUNDING)


@dataclass(frozen=True)
class Limits:
    """Per group, how many units must go (``lowest``) and how many may (``highest``; one unit always stays)."""

    lowest: tuple[int, ...]
    highest: tuple[int, ...]

    @classmethod
    def of(cls, groups: Sequence[Group], bounds: Mapping[str, tuple[float, float]] | None = None) -> Limits:
        """Limits of prunable ``groups``; ``bounds`` maps a group id to the range of its sparsity.

        Raises:
            CompressionError: a bound names no prunable group, or no whole number of units satisfies it.
        """
        bounds = bounds or {}
        known = {group.id for group in groups}
        for name in bounds:
            if name not in known:
                raise CompressionError(
                    f"sparsity bound: no prunable group {name!r}; prunable: {', '.join(sorted(known)[:8])}, …"
                )
        pairs = [_limit(group, *bounds.get(group.id, (0.0, 1.0))) for group in groups]
        return cls(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))

    def check(self, target: int) -> None:
        """Refuse a K that these limits cannot give.

        Raises:
            CompressionError: saying how many units there are at least and at most.
        """
        least, most = sum(self.lowest), sum(self.highest)
        if not least <= target <= most:
            raise CompressionError(
                f"{target} units are to be removed, but with one kept in every group and the groups' own bounds only "
                f"{least} to {most} can be: change sparsity or the groups' bounds"
            )


def _limit(group: Group, low: float, high: float) -> tuple[int, int]:
    least = math.ceil(low * group.units - _ROUNDING)
    most = min(target_units(high, group.units), group.units - 1)
    if least > most:
        raise CompressionError(
            f"group {group.id!r} of {group.units} units: no whole number in {low:g}..{high:g} of them leaves one"
        )
    return least, most


def choose_units(
    scores: torch.Tensor, group_of: Sequence[int], removed: torch.Tensor, limits: Limits, target: int, count: int
) -> list[int]:
    """The next ``count`` redundant units: least score first, refilled from the next best where a limit protects.

    Args:
        scores: [N], the units of all prunable groups one after the other.
        group_of: the group's index of each of the N units.
        removed: bool [N], units gone already; together with the chosen ones they never exceed ``target``.
        limits: per group; room for every group's lowest number is kept free throughout.

    Valid choices form a matroid (a union of two partition matroids), so the greedy choice has least total score and
    always finds ``count`` units when :meth:`Limits.check` passed and ``removed`` was chosen here too.
    """
    gone = [0] * len(limits.lowest)
    for unit in torch.nonzero(removed).flatten().tolist():
        gone[group_of[unit]] += 1
    owed = sum(max(0, low - have) for low, have in zip(limits.lowest, gone, strict=True))
    free = target - sum(gone) - owed
    chosen: list[int] = []
    blocked = removed.tolist()
    for unit in torch.argsort(scores, stable=True).tolist():
        if len(chosen) == count:
            break
        group = group_of[unit]
        must = gone[group] < limits.lowest[group]
        if blocked[unit] or gone[group] >= limits.highest[group] or (free == 0 and not must):
            continue
        chosen.append(unit)
        gone[group] += 1
        free -= 0 if must else 1
    return chosen
