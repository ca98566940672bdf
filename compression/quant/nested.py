"""Weights whose high bits are a weight by themselves: nested dead-zone grids, sign and magnitude (as in JPEG 2000).

Of a magnitude m in whole steps Δ, reading j bits fewer leaves m >> j in steps of 2^j Δ; what that stands for is the
middle of its cell, and 0 where nothing is left, so that zeros stay zeros and small weights become some. Every prefix is
a weight of the encoding ``offset`` (:mod:`compression.encodings.offset`):

    value of k:  sign(k) ((|k| - 1/2) 2^j Δ + t_j),    t_j = 2^j Δ - (Δ - t)

with t = Δ for weights that were cut into cells of width Δ (the middle is m + 1/2), and t = Δ / 2 for integers that a
quantizer chose (a cell of 2^j integers has its middle (2^j - 1) / 2 above its lowest one; j = 0 gives m Δ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compression.errors import CompressionError
from compression.quant.integers import IntegerWeight, Step
from compression.quant.tables import check_numbers

DEAD_ZONE, UNIFORM, OFFSET = "dead-zone", "uniform", "offset"
GRIDS = (DEAD_ZONE, UNIFORM, OFFSET)
MOST_PLANES = 30


@dataclass(frozen=True, eq=False)
class NestedWeight:
    """A weight of layer ``name``: ``codes`` int32 in its shape, abs(code) < 2^``planes``, with ``step`` Δ (fp32).

    ``grid`` says where levels begin: ``dead-zone`` t = Δ, ``uniform`` t = Δ / 2, ``offset`` t = ``offset``.
    """

    name: str
    codes: torch.Tensor
    step: Step
    planes: int
    grid: str = DEAD_ZONE
    offset: Step | None = None

    def prefix(self, planes: int) -> IntegerWeight:
        """The weight of which only the ``planes`` highest bits of each magnitude are known."""
        return coarser(self.name, self.codes.abs().bitwise_right_shift(self.planes - planes) * self.codes.sign(),
                       self.step, self.planes, planes, self.grid, self.offset)  # fmt: skip

    def errors(self, weight: torch.Tensor) -> NDArray[np.float64]:
        """Σ (w - ŵ)² of each prefix from none to all planes: fp64 [planes + 1]."""
        wide = weight.detach().cpu().double()
        return np.array([
            float((wide - self.prefix(planes).weight().double()).square().sum()) for planes in range(self.planes + 1)
        ])  # fmt: skip


def coarser(
    name: str, codes: torch.Tensor, step: Step, whole: int, planes: int, grid: str, offset: Step | None
) -> IntegerWeight:
    """The weight whose ``codes`` are ``planes`` of ``whole`` bits; ``step``, ``offset`` are those of whole codes."""
    one = torch.as_tensor(step, dtype=torch.float32)
    wide = one * 2.0 ** (whole - planes)
    if grid == UNIFORM and planes == whole:
        return IntegerWeight(name, codes, _number(wide), planes + 1)
    start = {DEAD_ZONE: one, UNIFORM: one / 2}.get(grid)
    start = torch.as_tensor(offset, dtype=torch.float32) if start is None else start
    return IntegerWeight(name, codes, _number(wide), planes + 1, _number(wide - (one - start)))


def _number(value: torch.Tensor) -> Step:
    return value if value.dim() else float(value)


def nested(name: str, weight: torch.Tensor, planes: int) -> NestedWeight:
    """Cut a weight into cells: m = min(⌊abs(w) / Δ⌋, 2^planes - 1) with Δ = max abs(w) / 2^planes.

    Raises:
        CompressionError: the weight holds NaN or infinite values.
    """
    check_numbers(name, weight)
    wide = weight.detach().cpu().double()
    largest = float(wide.abs().max()) if wide.numel() else 0.0
    step = float(np.float32(largest / 2**planes))
    if step == 0.0:
        return NestedWeight(name, torch.zeros(wide.shape, dtype=torch.int32), 1.0, 0)
    return NestedWeight(name, dead_zone(wide, step, planes), step, planes)


def dead_zone(weight: torch.Tensor, step: float, planes: int) -> torch.Tensor:
    """sign(w) min(⌊abs(w) / Δ⌋, 2^planes - 1), int32: every code at 2^j Δ is that at Δ without its j lowest bits."""
    magnitude = (weight.double().abs() / step).floor_().clamp_(max=2**planes - 1)
    return (magnitude * weight.sign()).to(torch.int32)


def of_codes(weight: IntegerWeight) -> NestedWeight:
    """The integers of a quantized weight, nested: all planes together are that weight, bit for bit.

    Raises:
        CompressionError: it has codes of more than 30 bits.
    """
    planes = int(weight.codes.abs().max()).bit_length() if weight.codes.numel() else 0
    if planes > MOST_PLANES:
        raise CompressionError(f"layer {weight.name}: codes of {planes} bits are more than {MOST_PLANES} planes")
    grid = UNIFORM if weight.offset is None else OFFSET
    return NestedWeight(weight.name, weight.codes.cpu(), weight.step, planes, grid, weight.offset)
