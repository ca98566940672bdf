"""Why all channels of a layer share one step: the best bits per channel, in closed form.

Channel c with half-range α_c and step Δ_c spends log2(2α_c / Δ_c) bits a weight and has error Δ_c² / 12 (fine steps).
Minimising Σ n_c Δ_c² / 12 for an average of B bits gives the same Δ for every channel: one codebook, in which a narrow
channel uses fewer codes. Derived here from OPQ's claim (AAAI 2021, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Codebook:
    """The shared ``step``, the ``bits`` that each channel spends [channels], and what one code length would take.

    ``saved``: bits a weight that the channels save against giving all of them the length of the widest.
    """

    step: float
    bits: Floats
    saved: float


def shared(ranges: ArrayLike, sizes: ArrayLike, bits: float) -> Codebook:
    """``Δ = 2^(1-B) Π α_c^(n_c/n)`` and ``b_c = B + log2 α_c - mean log2 α``.

    Args:
        ranges: α_c, the largest magnitude of each channel [channels], above 0.
        sizes: weights of each channel [channels].
        bits: B, the average bits a weight.
    """
    logs, share = np.log2(np.asarray(ranges, dtype=np.float64)), np.asarray(sizes, dtype=np.float64)
    middle = float((logs * share).sum() / share.sum())
    return Codebook(float(2.0 ** (1 - bits + middle)), bits + logs - middle, float(logs.max() - middle))


def rounding_errors(rows: Floats, steps: ArrayLike) -> Floats:
    """Mean squared error of rounding each row [channels, n] to multiples of its step [channels] (or of one step)."""
    d = np.broadcast_to(np.asarray(steps, dtype=np.float64), (len(rows),))[:, None]
    return np.asarray(((rows - np.rint(rows / d) * d) ** 2).mean(axis=1))


def separate_steps(ranges: ArrayLike, bits: float) -> Floats:
    """The step of each channel when every channel spends the same bits on its own range: ``2 α_c / 2^B``."""
    return np.asarray(2 * np.asarray(ranges, dtype=np.float64) / 2.0**bits)
