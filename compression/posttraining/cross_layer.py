"""Cross-layer equalization (Nagel et al., arXiv 1906.04721, section 4.1): equal ranges of rows and columns, no data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from compression.posttraining.pairs import Pair, Tensors
from compression.posttraining.ranges import RangeTables

MOST_SWEEPS = 500
SETTLED = 1e-4  # the largest |ln s| of a sweep
DEAD = 1e-6  # of a pair's largest range: a unit below has nothing to equalize
MOST = 1e4  # by which a unit may be scaled in all


def cross_layer_scales(pairs: Sequence[Pair], tensors: Tensors) -> tuple[list[torch.Tensor], int]:
    """The scale of every unit of every pair (fp64 [units], 1 where a pair has no columns), and how many sweeps it took.

    Ranges are those of effective weights: a batch norm directly behind a layer counts as if it were folded into it. So
    the fixed point is that of the folded network, where r₁ = r₂ in every pair whatever the order of the sweeps.
    """
    ranges = RangeTables(pairs, tensors)
    scales = [torch.ones(pair.units, dtype=torch.float64) for pair in pairs]
    change, sweeps = math.inf, 0
    while change > SETTLED and sweeps < MOST_SWEEPS:
        change, sweeps = 0.0, sweeps + 1
        for number, pair in enumerate(pairs):
            if not pair.columns:
                continue
            # s = sqrt(r2 / r1) for each unit (section 4.1)
            factors = _equalizing(ranges.producers(pair), ranges.readers(pair))
            factors = (scales[number] * factors).clamp(1 / MOST, MOST) / scales[number]
            ranges.scale(pair, factors)
            scales[number] *= factors
            change = max(change, float(factors.log().abs().max()))
    return scales, sweeps


def _equalizing(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    alive = (first > DEAD * first.max()) & (second > DEAD * second.max())
    return torch.where(alive, (second / first.clamp(min=torch.finfo(torch.float64).tiny)).sqrt(), 1.0)


def balance_rows(pairs: Sequence[Pair], tensors: Tensors) -> None:
    """Give all rows of a layer that a batch norm follows the range of its largest, in place.

    The norm's statistics take in any scale of a row, so that a step for the whole weight rounds as well as one for each
    channel. Without it the weight that is rounded would be the one before the norm, whose rows the sweeps above never
    touch. (Folding the norm would give rows the range of the effective weight instead.)
    """
    for pair in pairs:
        rows = pair.having("row")
        if pair.columns or pair.having("scale") or not rows:
            continue
        shares = torch.zeros(pair.units, dtype=torch.float64)
        for part in rows:
            channels = part.per_channel(tensors[part.name].detach().view(part.slot.view))
            shares = torch.maximum(shares, part.largest(channels / channels.max(), pair.units))
        pair.scale(tensors, torch.where(shares > DEAD, 1 / shares.clamp(min=DEAD), 1.0))
