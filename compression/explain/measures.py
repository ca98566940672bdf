"""How similar two attributions of one image are, by three measures; 1 is the same.

All three ignore the scale of the values, since the logits of two networks need not have the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

MEASURES = ("spearman", "ssim", "overlap")
TOP = 0.1  # the share of pixels that count as the most important ones
PERCENTILE = 99  # of |values|: what counts as full strength, so that one pixel does not dim all others
WINDOW = 7  # pixels, SSIM's

Map = NDArray[np.floating]


def similarity(one: Map, other: Map, signed: bool) -> dict[str, float]:
    """All of :data:`MEASURES` for two maps [H, W]."""
    return {"spearman": spearman(one, other), "ssim": ssim(one, other, signed), "overlap": overlap(one, other)}


def spearman(one: Map, other: Map) -> float:
    """Rank correlation over all pixels, in -1..1: do they put pixels in the same order? Ties share their mean rank.

    A map that is the same everywhere has no order: 0 against any other, 1 against another such map.
    """
    flat = [bool(np.ptp(values) == 0) for values in (one, other)]
    if any(flat):
        return float(all(flat))
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def ssim(one: Map, other: Map, signed: bool) -> float:
    """Structural similarity (Wang et al. 2004) of the two as pictures, in -1..1, windows of 7×7.

    Each map is divided by its own 99th percentile of ``|value|``, clipped, and a signed one moved from -1..1 to 0..1:
    SSIM multiplies a product of means with a covariance, and below zero two disagreements would count as agreement. The
    data range is 1 for every pair.
    """
    side = min(WINDOW, *one.shape)
    window = side if side % 2 else side - 1
    first, second = ((strength(values) + 1) / 2 if signed else strength(values) for values in (one, other))
    return float(structural_similarity(first, second, data_range=1.0, win_size=window))


def overlap(one: Map, other: Map, top: float = TOP) -> float:
    """Of the pixels that are among the strongest tenth (by ``|value|``) in either map, the share that is in both.

    0..1; 1/19 is what two unrelated maps have on average. Equal values are ordered by their place, first row first.
    """
    count = max(1, round(top * one.size))
    first, second = (
        set(np.argsort(-np.abs(values).ravel(), kind="stable")[:count].tolist()) for values in (one, other)
    )
    return len(first & second) / len(first | second)


def strength(values: Map) -> NDArray[np.float64]:
    """The map in -1..1: divided by its 99th percentile of ``|value|`` (where that is 0, by the largest), clipped."""
    wide = values.astype(np.float64)
    most = float(np.percentile(np.abs(wide), PERCENTILE)) or float(np.abs(wide).max())
    return np.clip(wide / most, -1.0, 1.0) if most > 0 else wide


def agreement(scores: Sequence[Sequence[float]]) -> float | None:
    """How similarly several scores order the same items: the mean rank correlation over all pairs of scores.

    ``None`` for a single score and for fewer than three items, which have no order to speak of.
    """
    pairs = list(combinations([np.asarray(values, dtype=float) for values in scores], 2))
    if not pairs or len(scores[0]) < 3:
        return None
    return float(np.mean([spearman(one, other) for one, other in pairs]))
