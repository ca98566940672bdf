"""The rows of a packed file's header: what each says about its tensor.

A row is [name, shape, "ans" | "fixed" | "bitmap", bytes, bits] for a coded weight with one step; for one with a step
for each position along a dimension this stands next, and for one whose levels are counted from an offset null and 1,
the offset being stored behind the step. [name, shape, dtype] is a leftover, [name, other name] a tensor that is the
same as an earlier one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from compression.quant.integers import IntegerWeight, Step

CODED, PER_CHANNEL, SHIFTED = 5, 6, 7  # entries of a coded weight's row
VERSIONS = {CODED: 1, PER_CHANNEL: 2, SHIFTED: 3}  # of the format, which needs them
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
    if weight.offset is not None:
        if weight.axis is not None:
            raise ValueError(f"layer {weight.name}: levels from an offset go with one step for all channels")
        return [name, list(weight.codes.shape), coding, size, weight.bits, None, 1]
    axis = [] if weight.axis is None else [weight.axis]
    return [name, list(weight.codes.shape), coding, size, weight.bits, *axis]


def is_coded(row: Row) -> bool:
    """Whether the tensor is a coded weight."""
    return len(row) in VERSIONS


def scale_count(row: Row) -> int:
    """How many fp32 numbers a coded weight has beside its codes: steps, and perhaps an offset."""
    return int(row[1][row[CODED]]) if len(row) == PER_CHANNEL else 2 if len(row) == SHIFTED else 1


def scales(weight: IntegerWeight) -> bytes:
    """These numbers of a weight as they are stored."""
    return np.array([*weight.steps, *([] if weight.offset is None else [weight.offset])], dtype="<f4").tobytes()


def step_of(row: Row, numbers: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[Step, float | None]:
    """The step and the offset of a coded weight: one number, or a tensor that broadcasts to the weight; and one."""
    if len(row) == SHIFTED:
        return float(numbers[0]), float(numbers[1])
    if len(row) == CODED:
        return float(numbers[0]), None
    shape = [size if dim == row[CODED] else 1 for dim, size in enumerate(row[1])]
    return torch.from_numpy(numbers.astype(np.float32)).reshape(shape), None


def leftover_size(row: Row) -> int:
    """Bytes of a tensor that is kept as it was."""
    return math.prod(row[1]) * DTYPES[row[2]].itemsize


def leftover(body: memoryview, at: int, row: Row) -> tuple[torch.Tensor, int]:
    """The tensor kept as it was whose bytes begin at ``at``, and where they end."""
    _, shape, kind = row
    dtype = DTYPES[kind]
    end = at + leftover_size(row)
    if end == at:
        return torch.zeros(shape, dtype=dtype), end
    raw = np.frombuffer(body[at:end], dtype=np.uint8).copy()
    return torch.from_numpy(raw).view(dtype).reshape(shape), end
