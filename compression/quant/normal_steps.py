"""Steps with the least squared error for numbers that are normally distributed, and for those behind a ReLU (UniQ).

``NORMAL[b - 1]`` is T_b: the step of ±(k - 1/2)Δ, k = 1..2^(b-1), for a normal number of deviation 1; T_1 is
2·sqrt(2/π) = 2 E|w|. ``HALF_NORMAL[b - 1]`` is T⁺_b: the step of k·Δ, k = 0..2^b - 1, for the larger of that number and
0 (UniQ, arXiv 2104.00210, section 3.2; the published T⁺_b differ from these minima by up to 1e-4 of them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

NORMAL = (1.595769, 0.995687, 0.586019, 0.335201, 0.188139, 0.104063, 0.056868, 0.030762)
HALF_NORMAL = (1.224006, 0.650770, 0.353411, 0.193249, 0.105488, 0.057261, 0.030870, 0.016528)
MOST_BITS = len(NORMAL)


def weight_step(weight: torch.Tensor, bits: int, axis: int | None = None) -> torch.Tensor:
    """σ·T_b of a weight, shape []; with ``axis`` that of each channel, in a shape that broadcasts to the weight.

    A channel whose weights are all equal has the step of the whole weight; a whole weight of that kind has step 1.
    """
    wide = weight.detach().double()
    step = _deviation(wide) * NORMAL[bits - 1]
    step = torch.where(step > 0, step, torch.ones_like(step))
    if axis is None:
        return step.float()
    rows = wide.movedim(axis, 0).reshape(wide.shape[axis], -1)
    own = rows.std(1, correction=0) * NORMAL[bits - 1]
    shape = [size if dim == axis else 1 for dim, size in enumerate(weight.shape)]
    return torch.where(own > 0, own, step).reshape(shape).float()


def input_clip(batches: Sequence[torch.Tensor], bits: int) -> float:
    """The clipping bound (2^b - 1)Δ of inputs that are never negative, Δ = sqrt(2 E x²)·T⁺_b.

    Behind a ReLU, sqrt(2 E x²) is the deviation of what was in front of it. E x² is that of the batch where it is
    largest.
    """
    square = max((float(batch.double().square().mean()) for batch in batches if batch.numel()), default=0.0)
    return math.sqrt(2 * square) * HALF_NORMAL[bits - 1] * (2**bits - 1)


def _deviation(weight: torch.Tensor) -> torch.Tensor:
    return weight.std(correction=0) if weight.numel() else weight.new_zeros(())
