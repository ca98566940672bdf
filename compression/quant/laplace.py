"""What the Laplace model of a layer's weights predicts: pruning and rounding errors in closed form.

The density is f(w) = exp(-|w|/τ) / 2τ with the maximum-likelihood scale τ = mean |w|. Errors are per weight and in
units of τ² (multiply by τ² and by the number of weights); steps are a = Δ/τ, thresholds u = t/τ. That OPQ assumes a
Laplace density is reported of the paper (AAAI 2021, sections 3.2 and 3.3); the formulas are derived here from its
objective and checked against quadrature.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammainc

from compression.counting.entropy import binary_entropy
from compression.quant.search import nested_minimum

Floats = NDArray[np.float64]


def levels_of(bits: int) -> int:
    """Q, the largest code of a bit-width: codes are -Q..Q with 0 reserved for pruned weights, Q = 2^(b-1) - 1."""
    return int(2 ** (bits - 1)) - 1


def threshold(share: ArrayLike) -> Floats:
    """The u below which this share of the weights lies: u = -ln(1 - p)."""
    return np.asarray(-np.log1p(-np.asarray(share, dtype=np.float64)))


def pruning_error(share: ArrayLike) -> Floats:
    """Mean of w² over all weights, counting only the share p with the smallest magnitudes: 2 P(3, u).

    P is the regularised lower incomplete gamma function, the stable form of 2 - (1 - p)(u² + 2u + 2).
    """
    return np.asarray(2.0 * gammainc(3.0, threshold(share)))


def rounding_error(step: ArrayLike) -> Floats:
    """Mean squared error of round(w/Δ)·Δ without saturation: 2 - a / sinh(a/2)."""
    a = np.asarray(step, dtype=np.float64)
    small = a < 1e-2
    series = a**2 / 12 - 7 * a**4 / 2880 + 31 * a**6 / 483840
    safe = np.where(small, 1.0, a)
    return np.where(small, series, 2.0 - safe / np.sinh(safe / 2))


def saturating_error(step: ArrayLike, levels: int) -> Floats:
    """Mean squared error of rounding to -Q..Q times Δ: 2 - 2a e^(-a/2) (1 - e^(-Qa)) / (1 - e^(-a))."""
    a = np.asarray(step, dtype=np.float64)
    return np.asarray(2.0 - 2 * a * np.exp(-a / 2) * np.expm1(-levels * a) / np.expm1(-a))


def survivor_grid_error(step: ArrayLike, levels: int) -> Floats:
    """Mean squared error of the survivors of a threshold t on the levels ±(t + (k - 1/2)Δ), k = 1..Q.

    The magnitude beyond the threshold is exponential, whatever t is: a²/4 + a + 2 - 2a (1 - e^(-Qa)) / (1 - e^(-a)).
    """
    a = np.asarray(step, dtype=np.float64)
    return np.asarray(a**2 / 4 + a + 2.0 - 2 * a * np.expm1(-levels * a) / np.expm1(-a))


def plain_grid_error(step: ArrayLike, excess: ArrayLike, levels: int, lowest: int = 1) -> Floats:
    """Mean squared error of the survivors of a threshold t on the levels ±kΔ, k = lowest..Q.

    ``excess`` is u = t/τ. With ``lowest`` 1 a survivor never becomes 0; with u = 0 and ``lowest`` 0 this is
    :func:`saturating_error`. The threshold itself is on level K, the nearest to it; every boundary (k + 1/2)a above
    takes 2a e^(u - (k + 1/2)a) off the error that K would have alone, a geometric series. ``step`` and ``excess``
    broadcast.
    """
    a, u = np.broadcast_arrays(np.asarray(step, dtype=np.float64), np.asarray(excess, dtype=np.float64))
    nearest = np.clip(np.floor(u / a + 0.5), lowest, levels)
    alone = u - nearest * a
    passed = 2 * a * np.exp(np.minimum(alone - a / 2, 0.0)) * np.expm1((nearest - levels) * a) / np.expm1(-a)
    return np.asarray(alone * alone + 2 * alone + 2.0 - passed)


@functools.cache
def best_step(bits: int) -> tuple[float, float]:
    """The universal best (a, error) of saturating rounding at this bit-width: (2, 2 - 4/e) for 2 bits."""
    return _universal(saturating_error, levels_of(bits))


@functools.cache
def best_survivor_step(bits: int) -> tuple[float, float]:
    """The universal best (a, error) of the survivors' own grid at this bit-width: (2, 1) for 2 bits."""
    return _universal(survivor_grid_error, levels_of(bits))


def _universal(error: Callable[[Floats, int], Floats], levels: int) -> tuple[float, float]:
    low, high = np.array([0.5 / levels]), np.array([4.0])
    a, errors = nested_minimum(lambda a: error(a, levels), low, high, rounds=7)
    return float(a[0]), float(errors[0])


def best_plain_steps(excess: ArrayLike, bits: int, lowest: int = 1) -> tuple[Floats, Floats]:
    """For each threshold u = t/τ the best (a, error) of the survivors' plain grid at this bit-width."""
    u = np.atleast_1d(np.asarray(excess, dtype=np.float64))
    levels = levels_of(bits)
    low, high = (0.25 + 0.5 * u) / levels, (u + 2.0 + 2 * np.log1p(levels)) / levels
    return nested_minimum(lambda a: plain_grid_error(a, u[:, None], levels, lowest), low, high)


def _tail_entropy(a: Floats) -> Floats:
    """Bits of sign and level of a weight known to lie beyond the dead zone."""
    return 1.0 + binary_entropy(np.exp(-a)) / -np.expm1(-a)


def entropy(step: ArrayLike) -> Floats:
    """Bits per weight of round(w/Δ): h(e^(-a/2)) + e^(-a/2) [1 + h(e^(-a)) / (1 - e^(-a))]."""
    a = np.asarray(step, dtype=np.float64)
    beyond = np.exp(-a / 2)  # share of the weights beyond the dead zone
    return np.asarray(binary_entropy(beyond) + beyond * _tail_entropy(a))


def pruned_entropy(step: ArrayLike, share: ArrayLike) -> Floats:
    """Bits per weight, positions included, when the share p is pruned and survivors use the survivor grid."""
    p = np.asarray(share, dtype=np.float64)
    return np.asarray(binary_entropy(p) + (1 - p) * _tail_entropy(np.asarray(step, dtype=np.float64)))


def water_level(scales: ArrayLike, sizes: ArrayLike, share: float) -> float:
    """The one threshold s that prunes this share of all weights: Σ n_i (1 - e^(-s/τ_i)) = share · Σ n_i.

    Args:
        scales: τ of each layer [layers], above 0.
        sizes: number of weights of each layer [layers].
        share: 0 up to, but not including, 1.
    """
    tau, n = np.asarray(scales, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    ends = float(threshold(share)) * np.array([tau.min(), tau.max()])
    if share == 0 or ends[0] == ends[1]:
        return float(ends[0])
    return float(brentq(lambda s: float((n * -np.expm1(-s / tau)).sum() - share * n.sum()), *ends, xtol=1e-15))
