"""The rows of a packed file's header: what each says about its tensor.

A row is [name, shape, "ans" | "fixed" | "bitmap", bytes, bits] for a coded weight with one step, and with the dimension
at its end for one with a step for each position along it; [name, shape, dtype] for a leftover and [name, other name]
for a tensor that is the same as an earlier one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from compression.quant.integers import IntegerWeight
from compression.quant.integers import Step

CODED, PER_CHANNEL = 5, 6  # entries of a coded weight's row
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32, torch.float64, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip

Row = list[Any]


def coded_row(name: str, weight: IntegerWeight, coding: str, size: int) -> Row:
    """The row of a weight whose codes are a stream of ``size`` bytes."""
    axis = [] if weight.axis is None else [weight.axis]
    return [name, list(weight.codes.shape), coding, size, weight.bits, *axis]


def is_coded(row: Row) -> bool:
    """Whether the tensor is a coded weight."""
    return len(row) in (CODED, PER_CHANNEL)


def step_count(row: Row) -> int:
    """How many steps a coded weight has."""
    return int(row[1][row[CODED]]) if len(row) == PER_CHANNEL else 1


def step_of(row: Row, steps: np.ndarray[Any, np.dtype[np.float32]]) -> Step:
    """The steps of a coded weight: one number, or a tensor that broadcasts to the weight."""
    if len(row) == CODED:
        return float(steps[0])
    shape = [size if dim == row[CODED] else 1 for dim, size in enumerate(row[1])]
    return torch.from_numpy(steps.astype(np.float32)).reshape(shape)


def leftover(body: memoryview, at: int, row: Row) -> tuple[torch.Tensor, int]:
    """The tensor kept as it was whose bytes begin at ``at``, and where they end."""
    _, shape, kind = row
    dtype = DTYPES[kind]
    end = at + math.prod(shape) * dtype.itemsize
    if end > len(body):
        raise ValueError("a tensor reaches beyond the end of the file")
    if end == at:
        return torch.zeros(shape, dtype=dtype), end
    raw = np.frombuffer(body[at:end], dtype=np.uint8).copy()
    return torch.from_numpy(raw).view(dtype).reshape(shape), end
