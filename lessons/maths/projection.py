"""Bringing a quantizer's three numbers back to an allowed bit-width: moving d alone, or all as little as can be.

GETA projects d alone (partially projected gradient, paper section 4.2): one division, and q_m and t stay where training
put them. That is the library's :meth:`compression.methods.geta.bounds.BitBounds.project`, which is called here. The
nearest point in all three has no closed form; it is here to be compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import minimize

from compression.methods.geta.bounds import BitBounds, Site
from compression.quant.quantizer import Quantizer, levels

FEWEST = 1.0  # bits: no step is too large


@dataclass(frozen=True)
class Scalars:
    """``step`` d, ``clip`` q_m and ``exponent`` t, all above 0."""

    step: float
    clip: float
    exponent: float

    @property
    def bits(self) -> float:
        """``b = log2(q_m ** t / d + 1) + 1`` (GETA section 3.1)."""
        return math.log2(self.clip**self.exponent / self.step + 1) + 1

    def distance(self, other: Scalars) -> float:
        """The Euclidean distance of two."""
        return math.dist((self.step, self.clip, self.exponent), (other.step, other.clip, other.exponent))


def project_step(scalars: Scalars, most: float) -> Scalars:
    """At most ``most`` bits by moving d alone: ``d = q_m ** t / (2 ** (b - 1) - 1)`` where there are too many."""
    if scalars.bits <= most:
        return scalars
    quantizer = Quantizer(scalars.clip, exponent=scalars.exponent)
    with torch.no_grad():
        quantizer.step_size.fill_(scalars.step)
    BitBounds([Site("lesson", "weight", quantizer, (FEWEST, most))], start_bits=most).project(1.0)
    return Scalars(float(quantizer.step_size.detach()), scalars.clip, scalars.exponent)


def project_all(scalars: Scalars, most: float) -> Scalars:
    """At most ``most`` bits at the nearest point (Euclidean) in d, q_m and t, by a numerical search."""
    if scalars.bits <= most:
        return scalars
    top = levels(most)

    def distance(at: tuple[float, float]) -> float:
        clip, exponent = at
        return scalars.distance(Scalars(clip**exponent / top, clip, exponent)) ** 2

    bounds = [(1e-6, 10 * scalars.clip), (1e-3, 10 * scalars.exponent)]
    nearest = minimize(distance, (scalars.clip, scalars.exponent), bounds=bounds, tol=1e-14)
    clip, exponent = (float(value) for value in nearest.x)
    return Scalars(clip**exponent / top, clip, exponent)
