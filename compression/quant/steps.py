"""The best step of each bit-width for the weights that survive, and its exact error, by prefix sums.

Levels are ±(t + v·Δ): on the plain grid t = 0 and v = lowest..Q, on the survivors' own grid t is the layer's threshold
and v = 1/2..Q - 1/2. Every boundary passed raises v by one, so with y = |w| - t, A = Σ v·y and B = Σ v² over the chosen
levels the error is Σy² - 2ΔA + Δ²B, and A and B follow from where the boundaries fall in the sorted magnitudes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.quant.laplace import best_plain_steps, best_survivor_step, levels_of
from compression.quant.search import nested_minimum
from compression.quant.tables import LayerTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_BOUNDARIES = 1 << 21  # looked up at once; bounds the memory
FEW = 128  # survivors of a layer, below which the search for its step is denser
NARROWEST = 1e-6  # of the threshold: the least step on the survivors' grid, so that levels differ in fp32


@dataclass(frozen=True)
class Survivors:
    """The weights of a layer that remain without its ``pruned`` smallest, and where their levels begin.

    ``offset`` is the threshold t of the survivors' own grid, ``None`` for the plain one. ``lowest`` 1 keeps every
    survivor at least at ±Δ, 0 lets it round to 0; on its own grid a survivor never does. ``bar`` is where their
    magnitudes begin in a Laplace model, the layer's threshold if not set. ``full``: Q = 2^(b-1), one level a sign more,
    where no code is spent on 0.
    """

    table: LayerTable
    pruned: int
    lowest: int = 1
    offset: float | None = None
    bar: float | None = None
    full: bool = False

    def levels(self, bits: int) -> int:
        """Q, how many levels there are a sign."""
        return levels_of(bits) + self.full

    @property
    def count(self) -> int:
        """How many there are."""
        return self.table.size - self.pruned

    @property
    def start(self) -> float:
        """t, from which the levels are counted."""
        return self.offset or 0.0

    @property
    def half(self) -> float:
        """By how much v is below the code."""
        return 0.0 if self.offset is None else 0.5

    def below(self, index: Ints) -> Floats:
        """Σ y over the ``index`` smallest magnitudes of the layer."""
        first = self.table.first[index]
        return first - self.start * self.table.mass(index) if self.start else first

    @property
    def mean(self) -> float:
        """The mean of y."""
        ends = np.array([self.pruned, self.table.size])
        return float(np.diff(self.below(ends))[0]) / max(float(np.diff(self.table.mass(ends))[0]), 1e-300)

    @property
    def squares(self) -> float:
        """Σ y²."""
        ends = np.array([self.pruned, self.table.size])
        first, second = (float(np.diff(sums[ends])[0]) for sums in (self.table.first, self.table.second))
        return second - 2 * self.start * first + self.start**2 * float(np.diff(self.table.mass(ends))[0])

    def sums(self, steps: Floats, levels: int) -> tuple[Floats, Floats]:
        """A = Σ v·y and B = Σ v² for every step [G]; where there are few survivors, weight by weight."""
        lowest, highest = (1 if self.half else self.lowest) - self.half, levels - self.half
        if self.count < 2 * levels:
            excess = self.table.magnitudes[self.pruned :].astype(np.float64) - self.start
            chosen = np.clip(np.rint(excess / steps[:, None] + self.half) - self.half, lowest, highest)
            counts = np.diff(self.table.mass(np.arange(self.pruned, self.table.size + 1)))
            return chosen @ (excess * counts), (chosen * chosen) @ counts
        ends = np.array([self.pruned, self.table.size])
        a = np.full(len(steps), np.array([-lowest, highest]) @ self.below(ends))
        b = np.full(len(steps), np.array([-lowest * lowest, highest * highest]) @ self.table.mass(ends))
        v = np.arange(lowest, highest)
        rows = max(1, MOST_BOUNDARIES // max(1, len(v)))
        for begin in range(0, len(steps), rows):
            part = slice(begin, begin + rows)
            boundaries = self.start + (v + 0.5) * steps[part, None]
            needles = np.minimum(boundaries, np.finfo(np.float32).max).astype(np.float32)
            index = np.maximum(np.searchsorted(self.table.magnitudes, needles, side="right"), self.pruned)
            a[part] -= self.below(index).sum(axis=1)
            b[part] -= self.table.mass(index) @ (2 * v + 1)
        return a, b

    def errors(self, steps: Floats, bits: int) -> Floats:
        """Exact Σ (|w| - ŵ)² for each step [G] at this bit-width."""
        a, b = self.sums(steps, self.levels(bits))
        return np.maximum(self.squares - 2 * steps * a + steps * steps * b, 0.0)


def best_steps(survivors: Survivors, choices: tuple[int, ...], proposed: Floats | None = None) -> tuple[Floats, Floats]:
    """The best step of each bit-width in ``choices`` (ascending) and the exact error there, each [choices].

    ``proposed`` steps (such as :func:`laplace_steps`) are measured instead of searching. Steps are rounded to fp32, as
    they are stored. A layer without survivors gets step 1 and error 0.
    """
    if not survivors.count:
        return np.ones(len(choices)), np.zeros(len(choices))
    steps, errors = np.empty(len(choices)), np.empty(len(choices))
    for i, bits in enumerate(choices):
        candidates = _searched(survivors, bits) if proposed is None else proposed[i : i + 1]
        fewer = steps[max(0, i - 1) : i]  # whose levels these bits can repeat
        candidates = np.concatenate([_stored(candidates, survivors.start), fewer])
        measured = survivors.errors(candidates, bits)
        steps[i], errors[i] = candidates[measured.argmin()], measured.min()
    return steps, errors


def laplace_steps(survivors: Sequence[Survivors], choices: Sequence[tuple[int, ...]]) -> list[Floats]:
    """For each layer the steps of its ``choices`` that are best under a Laplace model fitted to the survivors' excess.

    The scale is the mean of |w| - t over the survivors, where t is the threshold; no search touches the weights.
    """
    bars = np.array([each.table.threshold(each.pruned) if each.bar is None else each.bar for each in survivors])
    means = np.array([each.mean + each.start for each in survivors])
    scales = np.maximum(means - bars, 1e-6 * means + np.finfo(np.float64).tiny)
    own, lowest = survivors[0].offset is not None, survivors[0].lowest
    by_bits = {
        bits: scales * (best_survivor_step(bits)[0] if own else best_plain_steps(bars / scales, bits, lowest)[0])
        for bits in sorted(set().union(*choices))
    }
    return [np.array([by_bits[bits][i] for bits in options]) for i, options in enumerate(choices)]


def _stored(steps: Floats, start: float) -> Floats:
    least = max(float(np.finfo(np.float32).tiny), NARROWEST * start)
    return np.maximum(steps, least).astype(np.float32).astype(np.float64)


def _searched(survivors: Survivors, bits: int) -> Floats:
    """Candidates for the best step: the minimum on nested grids, and least-squares refits.

    A refit is A/B for the levels that a step assigns: never worse than that step. With few survivors the error is too
    rough in the step to follow, so that every point of a dense grid is refitted instead, which reaches to steps that
    leave half of the levels unused.
    """
    levels, least = survivors.levels(bits), max(NARROWEST * survivors.start, float(np.finfo(np.float32).tiny))
    low = max(0.25 * survivors.mean / levels, least)
    high = max(1.05 * (float(survivors.table.magnitudes[-1]) - survivors.start) / (levels - survivors.half), 2 * low)
    if survivors.count < FEW:
        candidates = np.geomspace(low, 2 * high, 1000)
    else:
        candidates, _ = nested_minimum(
            lambda steps: survivors.errors(steps[0], bits)[None],
            np.array([low]),
            np.array([high]),
            points=40 if bits <= 5 else 24 if bits <= 8 else 16,
            rounds=2,
        )
    a, b = survivors.sums(candidates, levels)
    refits = np.divide(a, b, out=candidates.copy(), where=b > 0)  # b = 0: every weight rounds to 0
    return np.concatenate([candidates, refits])
