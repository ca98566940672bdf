"""Schemes of quantizing a layer: which values its weights may take, and the exact least-squares fit of each scheme.

AutoQNN (Gong et al., JCST) offers quantizers of several shapes to every layer. Each is fitted here to the sorted
magnitudes of a layer by prefix sums, without training: with n_c weights in the cell of level l_c, whose magnitudes add
up to F_c, the squared error is Σw² - 2 Σ l_c F_c + Σ l_c² n_c. Weights that are exactly 0 stay 0 in every scheme.

uniform    k·Δ, |k| <= 2^(b-1) - 1
midrise    ±(k - 1/2)Δ, k = 1..2^(b-1): no level is 0
power2     ±s·2^-j, j = 0..2^(b-1) - 1, at most 16 powers
residual   ±α₁ ± … ± α_b
ternary    -Δ, 0, Δ
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from compression.quant.search import nested_minimum
from compression.quant.steps import Survivors, best_steps
from compression.quant.tables import LayerTable

Floats = NDArray[np.float64]
UNIFORM, MIDRISE, BEST = "uniform", "midrise", "best"
TINY = float(np.finfo(np.float32).tiny)
ROUNDS, SETTLED = 50, 1e-9
"""Least-squares rounds of residual scales at most, and the relative gain at which they end."""
MOST_BITS = {"power2": 5, "residual": 8, "ternary": 2}
"""Scheme → the bit-width beyond which it has no further levels."""


@dataclass(frozen=True)
class Fit:
    """A layer in one scheme: ``bits`` of a code, squared ``error``, and its ``step`` or magnitudes of its ``levels``.

    Without ``levels`` a code k stands for k·step, or with ``middle`` for ±(k - 1/2)·step. All numbers are fp32.
    """

    scheme: str
    bits: int
    step: float
    error: float
    middle: bool = False
    levels: tuple[float, ...] | None = None


def fit(table: LayerTable, bits: int, scheme: str) -> Fit:
    """The layer's fit in ``scheme`` with ``bits`` bits, or as many as the scheme has levels for.

    ``best`` takes that of the least error; of equal ones the one first in the module's list.
    """
    if float(table.magnitudes[-1]) == 0:
        return Fit(UNIFORM, bits, 1.0, 0.0)
    if scheme == BEST:
        fits = [one(table, min(bits, MOST_BITS.get(name, bits))) for name, one in SCHEMES.items()]
        return min(fits, key=lambda candidate: candidate.error)
    return SCHEMES[scheme](table, min(bits, MOST_BITS.get(scheme, bits)))


def uniform(table: LayerTable, bits: int) -> Fit:
    """The step of least squared error, larger weights saturating."""
    steps, errors = best_steps(Survivors(table, 0, lowest=0), (bits,))
    return Fit(UNIFORM, bits, float(steps[0]), float(errors[0]))


def midrise(table: LayerTable, bits: int) -> Fit:
    """As :func:`uniform`, on all 2^b levels around 0."""
    steps, errors = best_steps(Survivors(table, table.zeros, offset=0.0, full=True), (bits,))
    return Fit(MIDRISE, bits, float(steps[0]), float(errors[0]), middle=True)


def ternary(table: LayerTable, bits: int = 2) -> Fit:
    """The exact optimum by a search over all thresholds, where TWN (arXiv 1605.04711) estimates 0.7·E|w|.

    With the i smallest magnitudes at 0, the best step is the mean of the others, and lowers the error by
    (Σ of the others)² / their number.
    """
    others = table.first[-1] - table.first[:-1]
    number = np.arange(table.size, 0, -1)
    step = np.float32((others / number)[int((others * others / number).argmax())])
    error = Survivors(table, 0, lowest=0).errors(np.array([step], np.float64), 2)
    return Fit("ternary", 2, float(step), float(error[0]))


def power2(table: LayerTable, bits: int) -> Fit:
    """Powers of two below the scale of least squared error."""
    powers = 2.0 ** -np.arange(2 ** (bits - 1))[::-1]  # ascending, the last is 1

    def errors(scales: Floats) -> Floats:
        return np.array([[level_error(table, scale * powers) for scale in scales[0]]])

    largest = float(table.magnitudes[-1])
    scales, _ = nested_minimum(errors, np.array([largest / 16]), np.array([1.5 * largest]), points=32, rounds=2)
    # refit: s = Σ 2^-j F_j / Σ 4^-j n_j for the cells that the scale assigns
    counts, sums = _cells(table, scales[0] * powers)
    refit = float(powers @ sums) / float(powers**2 @ counts)
    return _least(table, "power2", bits, [float(np.float32(scale)) * powers for scale in (scales[0], refit)])


def residual(table: LayerTable, bits: int) -> Fit:
    """Sums of ``bits`` scales with signs (ResQ), each a greedy one more, and all refitted by least squares.

    They start from those with a bit less and the mean magnitude of what these leave over, or, where that ends at less
    error, from Δ2^-1, Δ, 2Δ, …: whose sums are the levels of :func:`midrise`. The error never rises with the bits.
    """
    scales: Floats = np.empty(0)
    for _ in range(bits):
        scales = _refined(table, np.append(scales, _mean_rest(table, scales)))
    step = midrise(table, bits).step
    doubling: Floats = step * 2.0 ** np.arange(-1, bits - 1, dtype=np.float64)
    return _least(table, "residual", bits, [_sums(each)[0] for each in (scales, _refined(table, doubling), doubling)])


SCHEMES: dict[str, Callable[[LayerTable, int], Fit]] = {
    UNIFORM: uniform, MIDRISE: midrise, "power2": power2, "residual": residual, "ternary": ternary
}  # fmt: skip


def level_error(table: LayerTable, levels: Floats) -> float:
    """Exact Σ (w - ŵ)² with every weight that is not 0 at the nearest of ± these magnitudes (ascending)."""
    counts, sums = _cells(table, levels)
    return max(float(table.second[-1] - 2 * levels @ sums + levels**2 @ counts), 0.0)


def _least(table: LayerTable, scheme: str, bits: int, candidates: list[Floats]) -> Fit:
    """The candidate levels of the least error as they are stored, in fp32."""
    stored = [np.maximum(levels, TINY).astype(np.float32).astype(np.float64) for levels in candidates]
    errors = [level_error(table, levels) for levels in stored]
    levels = stored[int(np.argmin(errors))]
    return Fit(scheme, bits, float(levels[-1]), min(errors), levels=tuple(levels.tolist()))


def _cells(table: LayerTable, levels: Floats) -> tuple[Floats, Floats]:
    """How many weights are nearest to each level, and the sum of their magnitudes: each [levels]."""
    middles = np.minimum((levels[1:] + levels[:-1]) / 2, np.finfo(np.float32).max).astype(np.float32)
    ends = np.searchsorted(table.magnitudes, middles, side="right")
    edges = np.concatenate([[table.zeros], np.maximum(ends, table.zeros), [table.size]])
    return np.diff(table.mass(edges)), np.diff(table.first[edges])


def _sums(scales: Floats) -> tuple[Floats, Floats]:
    """The sums of the scales with all signs that are not negative, ascending [2^(b-1)], and their signs [., b]."""
    signs = np.array([*product((-1.0, 1.0), repeat=len(scales))])
    order = np.argsort(signs @ scales, kind="stable")[len(signs) // 2 :]
    return np.maximum(signs[order] @ scales, 0.0), signs[order]


def _mean_rest(table: LayerTable, scales: Floats) -> float:
    """The mean of what the weights' magnitudes differ by from the nearest sum; with no scales their mean."""
    levels = _sums(scales)[0] if len(scales) else np.zeros(1)
    split = np.sort(np.concatenate([levels, (levels[1:] + levels[:-1]) / 2]))  # each cell below and above its level
    middles = np.minimum(split, np.finfo(np.float32).max).astype(np.float32)
    ends = np.maximum(np.searchsorted(table.magnitudes, middles, side="right"), table.zeros)
    edges = np.concatenate([[table.zeros], ends, [table.size]])
    counts, sums = np.diff(table.mass(edges)), np.diff(table.first[edges])
    return float(np.abs(sums - np.repeat(levels, 2) * counts).sum() / max(float(counts.sum()), 1.0))


def _refined(table: LayerTable, scales: Floats) -> Floats:
    """Scales by least squares for the signs of the nearest sums, alternately with these, until the error settles."""
    levels, signs = _sums(scales)
    error = level_error(table, levels)
    for _ in range(ROUNDS):
        # normal equations (Σ n_c s_c s_cᵀ) α = Σ F_c s_c over the cells of the present sums
        counts, sums = _cells(table, levels)
        normal, right = signs.T @ (counts[:, None] * signs), signs.T @ sums
        solved: Floats = np.linalg.lstsq(normal, right, rcond=None)[0].astype(np.float64)
        levels, signs = _sums(solved)
        before, error = error, level_error(table, levels)
        if error >= before * (1 - SETTLED):
            return solved if error < before else scales
        scales = solved
    return scales
