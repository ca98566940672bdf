"""The function whose gradients straight-through training uses: the quantizer with its rounding residue held fixed.

``Q(x) = sgn(x) (v(x) + d r)`` with ``v(x) = min(|x|, q_m) ** t`` and ``r = round(v / d) - v / d``. Rounding makes Q a
staircase, flat nearly everywhere. Holding r fixed at one point gives a smooth surrogate that touches the staircase
there, and its derivatives are those of :mod:`compression.quant.op`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compression.quant.op import fake_quantize


@dataclass(frozen=True)
class Point:
    """A value ``x`` and the quantizer's ``step`` d, ``clip`` q_m and ``exponent`` t; or a gradient of them."""

    x: float
    step: float
    clip: float
    exponent: float = 1.0


def clipped_power(at: Point) -> float:
    """``v = min(|x|, q_m) ** t``, 0 at x = 0."""
    bounded = min(abs(at.x), at.clip)
    return float(bounded**at.exponent) if bounded else 0.0


def residue(at: Point) -> float:
    """``r = round(v / d) - v / d``, between -1/2 and 1/2."""
    position = clipped_power(at) / at.step
    return float(round(position) - position)


def surrogate(at: Point, held: float) -> float:
    """``sgn(x) (v + d r)`` with the residue ``held`` fixed."""
    return math.copysign(1.0, at.x) * (clipped_power(at) + at.step * held) if at.x else 0.0


def staircase(at: Point) -> float:
    """The quantizer itself: the surrogate with the residue of this very point."""
    return surrogate(at, residue(at))


def gradients(at: Point) -> Point:
    """The gradients that the library's quantizer returns for an upstream gradient of 1, in fp64, by autograd."""
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in dataclasses.astuple(at)]
    fake_quantize(*leaves).backward()
    return Point(*(float(leaf.grad) if leaf.grad is not None else 0.0 for leaf in leaves))


def finite_differences(at: Point, width: float = 1e-6, held: float | None = None) -> Point:
    """Central differences in x, d, q_m and t of the surrogate; of the staircase itself for ``held`` NaN.

    ``held`` is the residue to hold, by default that of ``at``.
    """
    fixed = residue(at) if held is None else held

    def value(point: Point) -> float:
        return staircase(point) if math.isnan(fixed) else surrogate(point, fixed)

    differences = []
    for name, middle in dataclasses.asdict(at).items():
        up, down = (dataclasses.replace(at, **{name: middle + side * width}) for side in (1, -1))
        differences.append((value(up) - value(down)) / (2 * width))
    return Point(*differences)


def slopes(at: Point, xs: Sequence[float]) -> list[float]:
    """The gradient of x at each of ``xs``, with d, q_m and t of ``at``."""
    x = torch.tensor(list(xs), dtype=torch.float64, requires_grad=True)
    scalars = (torch.tensor(value, dtype=torch.float64) for value in (at.step, at.clip, at.exponent))
    return [float(slope) for slope in torch.autograd.grad(fake_quantize(x, *scalars).sum(), x)[0]]
