"""The best step of each bit-width for the weights that survive, and its exact error, by prefix sums.

Levels are ±kΔ for k = lowest..Q. Every boundary passed raises the level by one, so with A = Σ v·|w| and B = Σ v² over
the chosen levels v the error is Σw² - 2ΔA + Δ²B, and A and B follow from where the boundaries fall in the sorted
magnitudes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compression.methods.opq.laplace import best_plain_steps
from compression.methods.opq.laplace import levels_of
from compression.methods.opq.search import nested_minimum
from compression.methods.opq.tables import LayerTable

Floats = NDArray[np.float64]
MOST_BOUNDARIES = 1 << 21  # looked up at once; bounds the memory
FEW = 128  # survivors of a layer, below which the search for its step is denser


def _sums(table: LayerTable, pruned: int, steps: Floats, levels: int, lowest: int) -> tuple[Floats, Floats]:
    """A = Σ v·|w| and B = Σ v² over the survivors, for every step [G]; where there are few, weight by weight."""
    size = table.size
    if size - pruned < 2 * levels:
        kept = table.magnitudes[pruned:].astype(np.float64)
        chosen = np.clip(np.rint(kept / steps[:, None]), lowest, levels)
        return chosen @ kept, (chosen * chosen).sum(axis=1)
    a = np.full(len(steps), levels * table.first[size] - lowest * table.first[pruned])
    b = np.full(len(steps), float(levels) ** 2 * size - float(lowest) ** 2 * pruned)
    k = np.arange(lowest, levels, dtype=np.float64)
    rows = max(1, MOST_BOUNDARIES // max(1, len(k)))
    for start in range(0, len(steps), rows):
        part = slice(start, start + rows)
        boundaries = np.minimum((k + 0.5) * steps[part, None], np.finfo(np.float32).max).astype(np.float32)
        index = np.maximum(np.searchsorted(table.magnitudes, boundaries, side="right"), pruned)
        a[part] -= table.first[index].sum(axis=1)
        b[part] -= index @ (2 * k + 1)
    return a, b


def step_errors(table: LayerTable, pruned: int, steps: Floats, bits: int, lowest: int = 1) -> Floats:
    """Exact Σ (|w| - ŵ)² over the survivors of ``pruned`` weights, for each step [G] at this bit-width.

    ``lowest`` 1 keeps every survivor at least at ±Δ; 0 lets it round to 0.
    """
    a, b = _sums(table, pruned, steps, levels_of(bits), lowest)
    squares = table.second[-1] - table.second[pruned]
    return np.maximum(squares - 2 * steps * a + steps * steps * b, 0.0)


def best_steps(
    table: LayerTable, pruned: int, choices: tuple[int, ...], lowest: int = 1, proposed: Floats | None = None
) -> tuple[Floats, Floats]:
    """The best step of each bit-width in ``choices`` (ascending) and the exact error there, each [choices].

    ``proposed`` steps (such as :func:`laplace_steps`) are measured instead of searching. Steps are rounded to fp32, as
    they are stored. A layer without survivors gets step 1 and error 0.
    """
    if pruned == table.size:
        return np.ones(len(choices)), np.zeros(len(choices))
    steps, errors = np.empty(len(choices)), np.empty(len(choices))
    for i, bits in enumerate(choices):
        candidates = _searched(table, pruned, bits, lowest) if proposed is None else proposed[i : i + 1]
        fewer = steps[max(0, i - 1) : i]  # whose levels these bits can repeat
        candidates = np.concatenate([_stored(candidates), fewer])
        found = step_errors(table, pruned, candidates, bits, lowest)
        steps[i], errors[i] = candidates[found.argmin()], found.min()
    return steps, errors


def laplace_steps(
    tables: Sequence[LayerTable], counts: Sequence[int], choices: Sequence[tuple[int, ...]], lowest: int = 1
) -> list[Floats]:
    """For each layer the steps of its ``choices`` that are best under a Laplace model fitted to the survivors' excess.

    The scale is the mean of |w| - t over the survivors, where t is the threshold; no search touches the weights.
    """
    means = np.array([_survivor_mean(table, pruned) for table, pruned in zip(tables, counts, strict=True)])
    bars = np.array([table.threshold(pruned) for table, pruned in zip(tables, counts, strict=True)])
    scales = np.maximum(means - bars, 1e-6 * means + np.finfo(np.float64).tiny)
    by_bits = {}
    for bits in sorted(set().union(*choices)):
        by_bits[bits] = best_plain_steps(bars / scales, bits, lowest)[0] * scales
    return [np.array([by_bits[bits][i] for bits in options]) for i, options in enumerate(choices)]


def _stored(steps: Floats) -> Floats:
    return np.maximum(steps.astype(np.float32), np.finfo(np.float32).tiny).astype(np.float64)


def _searched(table: LayerTable, pruned: int, bits: int, lowest: int) -> Floats:
    """Candidates for the best step: the minimum on nested grids, and least-squares refits.

    A refit is A/B for the levels that a step assigns: never worse than that step. With few survivors the error is too
    rough in the step to follow, so that every point of a dense grid is refitted instead, which reaches to steps that
    leave half of the levels unused.
    """
    levels, mean = levels_of(bits), _survivor_mean(table, pruned)
    low, high = 0.25 * mean / levels, 1.05 * float(table.magnitudes[-1]) / levels
    if table.size - pruned < FEW:
        found = np.geomspace(low, 2 * high, 1000)
    else:
        found, _ = nested_minimum(
            lambda steps: step_errors(table, pruned, steps[0], bits, lowest)[None],
            np.array([low]),
            np.array([high]),
            points=40 if bits <= 5 else 24 if bits <= 8 else 16,
            rounds=2,
        )
    a, b = _sums(table, pruned, found, levels, lowest)
    return np.concatenate([found, np.divide(a, b, out=found.copy(), where=b > 0)])  # b = 0: every weight rounds to 0


def _survivor_mean(table: LayerTable, pruned: int) -> float:
    return float(table.first[-1] - table.first[pruned]) / max(1, table.size - pruned)
