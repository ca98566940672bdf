"""How removal rises over the periods or rounds in which units are chosen."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import torch

_ROUNDING = 1e-9
LINEAR, CUBIC, DAMAGE = "linear", "cubic", "damage"
RISES: Mapping[str, int | None] = {LINEAR: 1, CUBIC: 3, DAMAGE: None}
"""How removal rises over the periods → p of 1 - (1 - x)^p, the share that is removed after the share x of them;
``None``: as :func:`equal_damage` has it, which takes a part of all units that are still to be removed."""


def risen(rise: str, done: int, periods: int) -> float:
    """The share of all removal that units are chosen for when ``done`` of ``periods`` periods are to be over."""
    power = RISES[rise]
    return 1.0 if power is None else 1.0 - (1.0 - done / periods) ** power


def equal_damage(order: Sequence[int], damage: torch.Tensor, periods: int) -> list[int]:
    """The first of ``order``, all units still to be removed: as many as it takes to do 1 / ``periods`` of their damage.

    ``damage``: [N], the saliency of every unit, below 0 as 0; ``periods``: how many remain, this one included. Where no
    unit does any damage, equal numbers.
    """
    if periods <= 1:
        return list(order)
    done = damage[torch.tensor(order, dtype=torch.int64)].double().clamp(min=0).cumsum(0).tolist()
    total = done[-1] if done else 0.0
    number = bisect_left(done, total / periods * (1 - _ROUNDING)) + 1 if total > 0 else -(-len(done) // periods)
    return list(order[:number])
