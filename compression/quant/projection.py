"""Bringing a quantizer's three numbers back to an allowed bit-width: moving d alone, or all as little as can be.

GETA projects d alone (partially projected gradient, paper section 4.2): one division, and q_m and t stay where training
put them. The nearest point in all three has no closed form; it is here to be compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import minimize

from compression.quant.quantizer import levels


@dataclass(frozen=True)
class Scalars:
    """``step`` d, ``clip`` q_m and ``exponent`` t, all above 0."""

    step: float
    clip: float
    exponent: float

    @property
    def bits(self) -> float:
        """``b = log2(q_m ** t / d + 1) + 1``."""
        return math.log2(self.clip**self.exponent / self.step + 1) + 1

    def distance(self, other: Scalars) -> float:
        """The length of the way between two, each number counted as it is."""
        return math.dist((self.step, self.clip, self.exponent), (other.step, other.clip, other.exponent))


def project_step(scalars: Scalars, most: float) -> Scalars:
    """At most ``most`` bits by moving d alone: ``d = q_m ** t / (2 ** (b - 1) - 1)`` where there are too many."""
    if scalars.bits <= most:
        return scalars
    return Scalars(scalars.clip**scalars.exponent / levels(most), scalars.clip, scalars.exponent)


def project_all(scalars: Scalars, most: float) -> Scalars:
    """At most ``most`` bits at the nearest point (Euclidean) in d, q_m and t, found by a search."""
    if scalars.bits <= most:
        return scalars
    top = levels(most)

    def distance(at: tuple[float, float]) -> float:
        clip, exponent = at
        return scalars.distance(Scalars(clip**exponent / top, clip, exponent)) ** 2

    bounds = [(1e-6, 10 * scalars.clip), (1e-3, 10 * scalars.exponent)]
    found = minimize(distance, (scalars.clip, scalars.exponent), bounds=bounds, tol=1e-14)
    clip, exponent = (float(v) for v in found.x)
    return Scalars(clip**exponent / top, clip, exponent)
