"""What a uniform quantizer costs: the error of rounding inside its range, and that of clipping beyond it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compression.quant.op import quantized
from compression.quant.quantizer import levels


@dataclass(frozen=True)
class ErrorParts:
    """Sums over a tensor's values: ``rounding`` of those within ``clip``, ``clipping`` of those beyond.

    ``step``: d; ``signal``: Σ x²; ``clipped``: how many values lie beyond the bound.
    """

    step: float
    clip: float
    rounding: float
    clipping: float
    signal: float
    clipped: int

    @property
    def total(self) -> float:
        """Σ (x - Q(x))²."""
        return self.rounding + self.clipping

    @property
    def sqnr(self) -> float:
        """Signal-to-quantization-noise ratio in dB; infinite where nothing is lost."""
        return 10 * math.log10(self.signal / self.total) if self.total and self.signal else math.inf


def error_parts(x: torch.Tensor, clip: float, bits: float) -> ErrorParts:
    """Quantize ``x`` uniformly (t = 1, d = q_m / (2^(b-1) - 1)) and split the squared error.

    Args:
        x: any shape.
        clip: q_m, above 0.
        bits: the bit-width, 2 or more.
    """
    value, step = x.detach().double(), clip / levels(bits)
    rounded = quantized(value, torch.tensor(step, dtype=torch.float64), torch.tensor(clip, dtype=torch.float64))
    squares, beyond = (value - rounded).square(), value.abs() > clip
    clipping = float(squares[beyond].sum())
    whole = float(value.square().sum())
    return ErrorParts(step, clip, float(squares[~beyond].sum()), clipping, whole, int(beyond.sum()))


def clip_sweep(x: torch.Tensor, clips: Sequence[float], bits: float) -> list[ErrorParts]:
    """:func:`error_parts` for several clipping bounds: rounding falls as the bound does, clipping rises."""
    return [error_parts(x, clip, bits) for clip in clips]
