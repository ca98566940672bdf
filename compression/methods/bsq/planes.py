"""Bit planes of one layer (BSQ, arXiv 2102.10462, section 3): v = Σ_i (p_i - m_i) 2^i, of which a weight is the δ-fold.

``p`` and ``m`` are trained numbers in [0, 2], one for each bit of the positive and of the negative part; together they
are one tensor [2, n, *shape]. The published scale S is ``δ (2^n - 1)``: with the step δ in its place, a plane that is
dropped at the top changes nothing, and one at the bottom doubles δ. Equations: ``docs/derivations/bsq.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LARGEST = 2.0
"""Of an element of a plane: above 1, so that its weight can grow into the next plane."""
SMALL = 1e-8
"""Under the root of the penalty, as published."""


def powers(planes: torch.Tensor) -> torch.Tensor:
    """2^i of every plane, in a shape that broadcasts to one side [n, *shape]."""
    shape = (-1, *[1] * (planes.dim() - 2))
    return (2.0 ** torch.arange(planes.shape[1], device=planes.device)).to(planes.dtype).view(shape)


def split(codes: torch.Tensor, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The binary planes [2, count, *shape] of integers of magnitude at most 2^count - 1 (eq. B1)."""
    sides = torch.stack([codes, -codes]).clamp(min=0).to(torch.int32)
    return torch.stack([(sides >> i) & 1 for i in range(count)], dim=1).to(dtype).contiguous()


def joined(planes: torch.Tensor) -> torch.Tensor:
    """v = Σ_i (p_i - m_i) 2^i, shape of the weight (eq. B1)."""
    return ((planes[0] - planes[1]) * powers(planes)).sum(0)


def gradient(planes: torch.Tensor, step: torch.Tensor, weight_gradient: torch.Tensor) -> torch.Tensor:
    """dL/dp_i = δ 2^i dL/dW, and minus that for m_i: rounding is passed straight through (eq. B3)."""
    positive = powers(planes) * (weight_gradient.to(planes.dtype) * step)
    return torch.stack([positive, -positive])


def norms(planes: torch.Tensor) -> torch.Tensor:
    """√(1e-8 + Σ(p_i² + m_i²)) of each plane, shape [n] (eq. B4)."""
    return (SMALL + planes.square().sum(dim=(0, *range(2, planes.dim())))).sqrt()


def digits(values: torch.Tensor, most: int) -> torch.Tensor:
    """How many planes hold the largest of the numbers, rounded: at most ``most``, shape [], without waiting for it."""
    return (values.abs().max().round() >= 2.0 ** torch.arange(most, device=values.device)).sum()


@torch.no_grad()
def shrink(planes: torch.Tensor, amount: float | torch.Tensor) -> None:
    """One step of length ``amount`` down the penalty Σ_i norm_i, in place; no plane passes 0 (eq. B5)."""
    factors = (1 - amount / norms(planes)).clamp(min=0)
    planes.mul_(factors.view(-1, *[1] * (planes.dim() - 2)))


@torch.no_grad()
def rescaling(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """The factor s of δ for which s v' is nearest to v, in 1..2: <v, v'> / <v', v'>; 1 where v' is 0 (eq. B6)."""
    size = after.square().sum()
    factor = (before * after).sum() / size.clamp(min=SMALL)
    return torch.where(size > 0, factor, 1.0).clamp(1.0, 2.0)


@dataclass(frozen=True)
class Requantized:
    """Whole ``codes`` of magnitude at most 2^count - 1, whose step is the one before times 2^``doublings``."""

    codes: torch.Tensor
    count: int
    doublings: int


@torch.no_grad()
def requantize(values: torch.Tensor, count: int, lowest: int, highest: int) -> Requantized:
    """Round v to whole numbers and drop the planes that are empty, from both ends; ``lowest`` remain (eq. B7).

    Where the largest number needs another plane, there is one more, up to ``highest``; else it is clamped.
    """
    codes = values.round().to(torch.int64)
    # 1. A weight has grown beyond the leading plane: one more, or no more than that
    if int(codes.abs().max()) > 2**count - 1 and count < highest:
        count += 1
    codes = codes.clamp(1 - 2**count, 2**count - 1)
    # 2. Leading planes without a bit: the same integers with fewer bits
    count = max(lowest, int(codes.abs().max()).bit_length())
    # 3. Trailing planes without a bit: half the integers, twice the step
    doublings = 0
    while count > lowest and not bool((codes & 1).any()):
        codes, count, doublings = codes // 2, count - 1, doublings + 1
    return Requantized(codes, count, doublings)
