"""The single path: a value at many bits is the value at few bits and offsets on finer grids, counted or not by gates.

Equations: ``docs/derivations/sbs.md``.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compression.quant.integers import values
from compression.quant.kernels import SMALLEST
from compression.quant.midrise import MidriseQuantizer, positions
from compression.quant.op import round_to_codes
from compression.quant.quantizer import Quantizer, levels

UNIT_BITS = 2


@dataclass(frozen=True, eq=False)
class Path(ABC):
    """What one quantizer's value is at every one of its ``candidates``, ascending bit-widths with one clipping bound.

    Gate j (from 0) lets candidate j + 1 count: ẑ = z_0 + g_0 (ε_1 + g_1 (ε_2 + …)), ε_j = z_j - z_(j-1) (eq. S2).
    """

    candidates: tuple[int, ...]

    @abstractmethod
    def set_bits(self, bits: int) -> None:
        """Give the quantizer this bit-width; its clipping bound stays."""

    @abstractmethod
    def clipped(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` brought into the quantizer's range."""

    @abstractmethod
    def spacing(self, bits: int) -> torch.Tensor:
        """The distance of two levels at a candidate."""

    @abstractmethod
    def value(self, x: torch.Tensor, bits: int) -> torch.Tensor:
        """``x`` on the grid of a candidate."""

    @torch.no_grad()
    def offsets(self, x: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        """⟨dL/dẑ, ε_j⟩ of every gate, fp32 [gates].

        ``upstream`` may be the straight-through gradient, which is 0 beyond the clipping bound: so are the ε there.
        """
        grids = [self.value(x, bits) for bits in self.candidates]
        products = [(upstream * (finer - coarser)).sum() for coarser, finer in itertools.pairwise(grids)]
        return torch.stack(products) if products else upstream.new_zeros(0)

    @torch.no_grad()
    def metrics(self, x: torch.Tensor) -> torch.Tensor:
        """A_j, fp32 [gates]: the error of the grid below gate j (eq. S3), root mean square.

        In units of Δ/√12 of two bits, the error of evenly spread numbers there. Numbers that are exactly 0 are on every
        grid and are not counted.
        """
        inside = self.clipped(x)
        count, unit = torch.count_nonzero(x).clamp(min=1), self.spacing(UNIT_BITS) / math.sqrt(12)
        ratios = [
            ((inside - self.value(x, bits)).square().sum() / count).sqrt() / unit for bits in self.candidates[:-1]
        ]
        return torch.stack(ratios) if ratios else x.new_zeros(0)


@dataclass(frozen=True, eq=False)
class WeightPath(Path):
    """Of a mid-rise quantizer: Δ_b = 2v / (2^b - 1) (eq. S1)."""

    quantizer: MidriseQuantizer

    @torch.no_grad()
    def set_bits(self, bits: int) -> None:
        if bits != self.quantizer.width:
            self.quantizer.step_size.mul_((2**self.quantizer.width - 1) / (2**bits - 1))
            self.quantizer.set_bits(bits)

    def spacing(self, bits: int) -> torch.Tensor:
        size = self.quantizer.step_size.detach().clamp(min=SMALLEST)
        return size * ((2**self.quantizer.width - 1) / (2**bits - 1))

    def clipped(self, x: torch.Tensor) -> torch.Tensor:
        bound = self.spacing(self.candidates[0]) * ((2 ** self.candidates[0] - 1) / 2)
        return torch.minimum(torch.maximum(x, -bound), bound)

    def value(self, x: torch.Tensor, bits: int) -> torch.Tensor:
        step = self.spacing(bits)
        return values(positions(x, step, bits), step, torch.zeros_like(step))


@dataclass(frozen=True, eq=False)
class InputPath(Path):
    """Of a quantizer of inputs: multiples of v / (2^b - 1) without a sign, of v / (2^(b-1) - 1) with one.

    With a sign, where grids do not lie in one another, the offsets are still what a gate adds.
    """

    quantizer: Quantizer

    def set_bits(self, bits: int) -> None:
        self.quantizer.set_bits(bits)

    def spacing(self, bits: int) -> torch.Tensor:
        bound = self.quantizer.clip.detach().clamp(min=SMALLEST)
        return bound / levels(bits, self.quantizer.is_unsigned)

    def clipped(self, x: torch.Tensor) -> torch.Tensor:
        bound = self.quantizer.clip.detach().clamp(min=SMALLEST)
        return torch.minimum(x.clamp(min=0) if self.quantizer.is_unsigned else torch.maximum(x, -bound), bound)

    def value(self, x: torch.Tensor, bits: int) -> torch.Tensor:
        step, quantizer = self.spacing(bits), self.quantizer
        return round_to_codes(x, step, quantizer.clip.detach(), None, quantizer.is_unsigned).mul_(step)


def chained(gates: Sequence[bool]) -> torch.Tensor:
    """dẑ/dg of gates of one path, as factors of the offsets: fp32 [gates, gates] (eq. S4).

    Row j has for offset k >= j the product of all gates up to k but j itself: with every gate before it open, gate j
    decides about its offset and those behind it whose gates are open.
    """
    count = len(gates)
    factors = torch.zeros(count, count)
    for j in range(count):
        for k in range(j, count):
            factors[j, k] = float(all(gate for i, gate in enumerate(gates[: k + 1]) if i != j))
    return factors


def gate_steps(candidates: Sequence[int]) -> torch.Tensor:
    """The bits that each gate of a path adds, fp32 [gates]."""
    return torch.tensor([float(more - fewer) for fewer, more in itertools.pairwise(candidates)])


def opened(candidates: Sequence[int], gates: Sequence[bool]) -> int:
    """The bit-width of a path: that of the last candidate before the first closed gate."""
    number = next((j for j, gate in enumerate(gates) if not gate), len(gates))
    return candidates[number]
