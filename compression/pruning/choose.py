"""Choosing exactly K redundant units by least score, whatever the bounds of the single groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compression.errors import CompressionError
from compression.graph.types import Group
from compression.pruning.unit_cost import UnitPrices

_ROUNDING = 1e-9


def target_units(sparsity: float, units: int) -> int:
    """K = ⌊sparsity · N⌋, not misled by binary fractions (0.29 · 100 is 29)."""
    return math.floor(sparsity * units + _ROUNDING)


def unit_bounds(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """The bounds (lowest, highest) on the sparsity of single groups, as a budget's ``groups`` has them."""
    return {
        name: (float(bounds["sparsity"][0]), float(bounds["sparsity"][1]))
        for name, bounds in groups.items()
        if "sparsity" in bounds
    }


@dataclass(frozen=True)
class UnitLimits:
    """Per group, how many units must be removed (``lowest``) and how many may be (``highest``; one always remains).

    ``units``: how many there are in all groups together; ``bounded``: whether some groups have separate bounds.
    """

    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    units: int = 0
    bounded: bool = False

    @classmethod
    def from_groups(
        cls, groups: Sequence[Group], bounds: Mapping[str, tuple[float, float]] | None = None
    ) -> UnitLimits:
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
        return cls(
            tuple(low for low, _ in pairs),
            tuple(high for _, high in pairs),
            sum(group.units for group in groups),
            bool(bounds),
        )

    def check(self, target: int) -> None:
        """Refuse a K that these limits cannot give.

        Raises:
            CompressionError: saying how many units there are at least and at most, and which sparsity that is.
        """
        least, most = sum(self.lowest), sum(self.highest)
        if not least <= target <= most:
            ends = math.ceil(1000 * least / self.units) / 10, math.floor(1000 * most / self.units) / 10
            why = (
                "with one remaining in every group and the bounds of single groups"
                if self.bounded
                else "with one remaining in every group"
            )
            other = " or change the bounds of groups" if self.bounded else ""
            raise CompressionError(
                f"{target} units are to be removed, but {why} only {least} to {most} of {self.units} can be: choose a "
                f"sparsity from {ends[0]:g} % to {ends[1]:g} %{other}"
            )


def _limit(group: Group, low: float, high: float) -> tuple[int, int]:
    least = math.ceil(low * group.units - _ROUNDING)
    most = min(target_units(high, group.units), group.units - 1)
    if least > most:
        raise CompressionError(
            f"group {group.id!r} of {group.units} units: no whole number in {low:g}..{high:g} of them leaves one"
        )
    return least, most


def averaged(scores: torch.Tensor) -> torch.Tensor:
    """The mean of these scores over all processes of a distributed training, so that all choose the same units."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(scores)
        scores = scores / torch.distributed.get_world_size()
    return scores


def ranked(
    scores: torch.Tensor, group_of: Sequence[int], removed: torch.Tensor, prices: UnitPrices | None = None
) -> Iterator[int]:
    """The units that are not removed, least score first; the least unit number first among equal ones.

    ``prices`` (those by which ``scores`` were divided) may change while this is iterated: the next unit is always the
    least by the prices of the moment. Units of a group have one price, so that their order among themselves is fixed.
    """
    if prices is None:
        blocked = removed.tolist()
        yield from (unit for unit in torch.argsort(scores, stable=True).tolist() if not blocked[unit])
        return
    groups = np.asarray(group_of, dtype=np.int64)
    saliency = scores.double().numpy() * prices.values[groups]
    order = np.argsort(saliency, kind="stable")
    order = order[~removed.numpy()[order]]
    queues = [order[groups[order] == index].tolist()[::-1] for index in range(len(prices.costs))]
    least = np.array([saliency[queue[-1]] if queue else np.inf for queue in queues])
    for _ in range(len(order)):
        group = int(np.argmin(least / prices.values))
        unit = queues[group].pop()
        least[group] = saliency[queues[group][-1]] if queues[group] else np.inf
        yield unit


def scores_when_chosen(
    scores: torch.Tensor, chosen: Sequence[int], group_of: Sequence[int], prices: UnitPrices
) -> torch.Tensor:
    """``scores``, by ``prices``, renewed: of each of ``chosen`` when it was chosen, of the others after that."""
    groups = torch.tensor(group_of)
    saliency = scores.double() * torch.from_numpy(prices.values)[groups]
    prices, values = prices.copy(), {}
    for unit in chosen:
        values[unit] = float(saliency[unit]) / float(prices.values[group_of[unit]])
        prices.remove(group_of[unit])
    renewed = saliency / torch.from_numpy(prices.values)[groups]
    for unit, value in values.items():
        renewed[unit] = value
    return renewed


def choose_units(
    scores: torch.Tensor,
    group_of: Sequence[int],
    removed: torch.Tensor,
    limits: UnitLimits,
    target: int,
    count: int,
    prices: UnitPrices | None = None,
) -> list[int]:
    """The next ``count`` redundant units: least score first, refilled from the next best where a limit protects.

    Args:
        scores: [N], the units of all prunable groups one after the other.
        group_of: the group's index of each of the N units.
        removed: bool [N], units removed already; together with the chosen ones they never exceed ``target``.
        limits: per group; room for every group's lowest number is reserved throughout.
        prices: by which ``scores`` were divided, where they are renewed after every chosen unit; not changed.

    Valid choices form a matroid (a union of two partition matroids), so the greedy choice has least total score and
    always reaches ``count`` units when :meth:`UnitLimits.check` passed and ``removed`` was chosen here too. With
    renewed prices it is greedy only: a unit's score depends on those chosen before it.
    """
    # 1. How many units of each group are removed already, and how many of the target no group has a claim to
    counts = [0] * len(limits.lowest)
    for unit in torch.nonzero(removed).flatten().tolist():
        counts[group_of[unit]] += 1
    owed = sum(max(0, low - have) for low, have in zip(limits.lowest, counts, strict=True))
    free = target - sum(counts) - owed
    # 2. In the order of scores, every unit that the limits of its group still allow
    chosen: list[int] = []
    prices = None if prices is None else prices.copy()
    for unit in ranked(scores, group_of, removed, prices):
        if len(chosen) == count:
            break
        group = group_of[unit]
        must = counts[group] < limits.lowest[group]
        if counts[group] >= limits.highest[group] or (free == 0 and not must):
            continue
        chosen.append(unit)
        counts[group] += 1
        free -= 0 if must else 1
        if prices is not None:
            prices.remove(group)
    return chosen


@dataclass(frozen=True)
class Choice:
    """One pruning period's choice and why: ``score`` of every chosen unit (least first), by group id and unit number.

    ``spared`` are units that scored lower than the last one chosen but remain, because a limit protects their group;
    ``next_score`` is the least score of the other units that remain (``None`` when there is none).
    """

    score: dict[str, dict[int, float]]
    spared: dict[str, list[int]]
    next_score: float | None


def explain(
    chosen: Sequence[int], scores: torch.Tensor, removed: torch.Tensor, named: Sequence[tuple[str, int]]
) -> Choice:
    """Why ``chosen`` and no others; ``named``: (group id, unit number in it) of each of the N units."""
    values, taken = scores.tolist(), set(chosen)
    worst = max((values[unit] for unit in chosen), default=-math.inf)
    remaining = [unit for unit in torch.nonzero(~removed).flatten().tolist() if unit not in taken]
    score: dict[str, dict[int, float]] = {}
    for unit in sorted(chosen, key=values.__getitem__):
        score.setdefault(named[unit][0], {})[named[unit][1]] = values[unit]
    spared: dict[str, list[int]] = {}
    for unit in remaining:
        if values[unit] < worst:
            spared.setdefault(named[unit][0], []).append(named[unit][1])
    return Choice(score, spared, min((values[unit] for unit in remaining if values[unit] >= worst), default=None))
