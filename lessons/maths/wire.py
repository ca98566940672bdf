"""How far the mean of several processes is off when each rounds its gradient: at random, or to the nearest level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from compression.quant.gradient_levels import best_levels, even_levels, two_means
from compression.quant.stochastic import round_to_nearest, values_of, variances

BEST, EVEN, NEAREST = "best", "even", "nearest"
WIDTHS = range(1, 9)


@dataclass(frozen=True, eq=False)
class Rounding:
    """A block's ``levels`` [K] ascending, and the squared error relative to Σ v²: that of one process which ``fades``
    with their number, as what is right on average does, and that which ``stays``.
    """

    levels: torch.Tensor
    fades: float
    stays: float

    def off(self, processes: int) -> float:
        """How far the mean of so many equal gradients is off, as a share of their length."""
        return float((self.fades / processes + self.stays) ** 0.5)


def roundings(block: torch.Tensor, bits: int) -> Mapping[str, Rounding]:
    """A block [n] in ``bits`` bits: at random to ORQ's levels or to even ones, and to the nearest of the former.

    With one bit the nearest is of the two means of BinGrad-b.
    """
    row, energy = block.double()[None], float(block.double().square().sum())
    best, even = best_levels(row, bits), even_levels(row, bits)
    means = two_means(row) if bits == 1 else best
    lost = float((values_of(round_to_nearest(row, means), means) - row).square().sum())
    return {
        BEST: Rounding(best[0], float(variances(row, best).sum()) / energy, 0.0),
        EVEN: Rounding(even[0], float(variances(row, even).sum()) / energy, 0.0),
        NEAREST: Rounding(means[0], 0.0, lost / energy),
    }
