"""Signals through a recurrence that applies one matrix again and again."""

from __future__ import annotations

import torch

SIGNALS = 64


def signals(size: int) -> torch.Tensor:
    """Seeded random signals of length 1, fp64 [size, SIGNALS]."""
    drawn = torch.randn(size, SIGNALS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return drawn / drawn.norm(dim=0)


def through_time(matrix: torch.Tensor, start: torch.Tensor, steps: int) -> torch.Tensor:
    """W^t h for t = 0..``steps``, fp64 [steps + 1, size, signals]; ``start`` are the h, [size, signals]."""
    states = start.new_empty(steps + 1, *start.shape)
    states[0] = start
    for t in range(steps):
        torch.mm(matrix, states[t], out=states[t + 1])
    return states
