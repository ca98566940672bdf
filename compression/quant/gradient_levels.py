"""Levels for gradients that workers send each other: ORQ for two bits and more, BinGrad for one (arXiv 2002.11082).

Blocks of values are [B, n], levels [B, K] ascending. The conditions are derived from the paper's objective and hold for
any values, not for a density. They are for *stochastic* rounding: Lloyd and Max's levels are for rounding to nearest.
"""

from __future__ import annotations

import torch

from compression import devices

SWEEPS = 2
"""Rounds in which each level goes to its best place between its neighbours, after the greedy ones."""


class _Sorted:
    """Blocks in ascending order with prefix sums, above the least value of each."""

    def __init__(self, blocks: torch.Tensor) -> None:
        exact = devices.exact_dtype(blocks.device)
        self.values = blocks.sort(dim=1).values
        self.above = (self.values - self.values[:, :1]).to(exact)
        self.sums = torch.nn.functional.pad(self.above.cumsum(dim=1), (1, 0))

    def excess(self, first: torch.Tensor, last: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Σ (v - level) over the values with numbers ``first`` to ``last``."""
        return self.sums.gather(1, last + 1) - self.sums.gather(1, first) - (last - first + 1) * level

    def best_between(self, first: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The number of the best level between the values of these numbers, [B, intervals], and what it saves.

        With levels a and c around l, Σ_{v<l} (l - v)(v - a) + Σ_{v>=l} (c - v)(v - l) is convex and piecewise linear in
        l. Its slope, Σ (v - a) - (c - a) #{v >= l}, changes its sign at a value: the condition
        #{v >= l} = T = Σ (v - a) / (c - a) of ORQ names an order statistic. Duplicates of a add nothing to T, those of
        c as much as to the count, so that it does not matter which of them the numbers mean.
        """
        low, high = self.above.gather(1, first), self.above.gather(1, last)
        # 1. T, between 1 and one less than there are values; 0 where all are equal
        width = high - low
        share = self.excess(first, last, low) / torch.where(width > 0, width, torch.inf)
        # 2. The last value that T values, itself included, are at or above
        middle = (last - share.floor().long()).clamp(first, last)
        # 3. Σ (c - v)(v - a) falls by (c - l)(v - a) for v below l, and by (l - a)(c - v) for the others
        level = self.above.gather(1, middle)
        below, over = self.excess(first, middle - 1, low), -self.excess(middle, last, high)
        return middle, (high - level) * below + (level - low) * over


def middle_level(blocks: torch.Tensor) -> torch.Tensor:
    """The best level [B] between the least and the largest value of each block: the first one that ORQ adds."""
    ordered = _Sorted(blocks)
    ends = torch.tensor([[0], [blocks.shape[1] - 1]], device=blocks.device).expand(2, len(blocks))[..., None]
    return ordered.values.gather(1, ordered.best_between(ends[0], ends[1])[0])[:, 0]


def best_levels(blocks: torch.Tensor, bits: int, sweeps: int = SWEEPS) -> torch.Tensor:
    """The 2^bits levels [B, 2^bits] of ORQ: values of each block, so that the error of stochastic rounding is small.

    Greedy as in the paper: the ends are the least and the largest value, so that rounding is unbiased; the middle level
    comes first, then those of both halves. That makes 2^m + 1 levels, one too many for m bits: in the last round the
    split that saves least is left out. Greedy levels are not the best together; each of the ``sweeps`` moves every
    other level, then the rest, to its best place between its neighbours, which never adds error.
    A block in which a value is not finite gets levels that are none either.
    """
    ordered = _Sorted(blocks)
    at = torch.tensor([[0, blocks.shape[1] - 1]], device=blocks.device).expand(len(blocks), 2)
    for remaining in reversed(range(bits)):
        middle, saved = ordered.best_between(at[:, :-1], at[:, 1:])
        at = torch.cat([torch.stack([at[:, :-1], middle], dim=2).flatten(1), at[:, -1:]], dim=1)
        if remaining == 0:
            at = _without(at, 2 * saved.argmin(dim=1, keepdim=True) + 1)
    for _ in range(sweeps):
        for start in (1, 2):
            inner = torch.arange(at.shape[1], device=at.device)[start:-1:2]
            at = at.index_copy(1, inner, ordered.best_between(at[:, inner - 1], at[:, inner + 1])[0])
    levels = ordered.values.gather(1, at)
    return torch.where(blocks.isfinite().all(dim=1, keepdim=True), levels, torch.nan)


def _without(numbers: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """The rows of [B, K] without the entry at ``place`` [B, 1]."""
    others = torch.arange(numbers.shape[1] - 1, device=numbers.device)
    return numbers.gather(1, others + (others >= place))


def even_levels(blocks: torch.Tensor, bits: int) -> torch.Tensor:
    """2^bits levels at equal distances from the least to the largest value, [B, 2^bits]: those of QSGD (1610.02132)."""
    low, high = blocks.amin(dim=1, keepdim=True), blocks.amax(dim=1, keepdim=True)
    return torch.lerp(low, high, torch.linspace(0, 1, 2**bits, device=blocks.device, dtype=blocks.dtype))


def two_means(blocks: torch.Tensor) -> torch.Tensor:
    """BinGrad-b: the two levels [B, 2] that are the means of the values on either side of their middle.

    The best two for rounding to nearest: of all splits of the sorted values the one whose means leave least error. What
    is lost is biased value by value, but the sum of a block is exact. Blocks have two values or more.
    """
    ordered, count = _Sorted(blocks), blocks.shape[1]
    # The error is Σ v² less i·mean² of either side
    lower = torch.arange(1, count, device=blocks.device).to(ordered.sums.dtype)
    first, rest = ordered.sums[:, 1:-1], ordered.sums[:, -1:] - ordered.sums[:, 1:-1]
    split = (first.square() / lower + rest.square() / (count - lower)).argmax(dim=1, keepdim=True)
    means = torch.cat([first.gather(1, split) / (split + 1), rest.gather(1, split) / (count - split - 1)], dim=1)
    levels = means.to(blocks.dtype) + ordered.values[:, :1]
    return torch.where(blocks.isfinite().all(dim=1, keepdim=True), levels, torch.nan)


def symmetric_pair(blocks: torch.Tensor) -> torch.Tensor:
    """BinGrad-pb: the levels -b and b [B, 2] where b·n = Σ_{|v|>b} |v|; larger values are clipped, others unbiased.

    That is where the slope of Σ_{|v|<=b} (b² - v²) + Σ_{|v|>b} (|v| - b)² is 0, or jumps over 0, as it may at a value.
    """
    count = blocks.shape[1]
    falling = blocks.abs().sort(dim=1, descending=True).values
    sums = falling.to(devices.exact_dtype(blocks.device)).cumsum(dim=1)
    # 1. How many lie beyond b: the k-th largest does while n |v|_k > Σ of the k largest
    beyond = (count * falling > sums).sum(dim=1, keepdim=True)
    # 2. b from their sum, and not below the largest of the others
    total = torch.nn.functional.pad(sums, (1, 0)).gather(1, beyond)
    b = torch.maximum((total / count).to(blocks.dtype), falling.gather(1, beyond.clamp(max=count - 1)))
    return torch.cat([-b, b], dim=1)
