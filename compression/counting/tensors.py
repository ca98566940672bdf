"""The size of weights of which only names and shapes are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

FP32_BYTES = 4


def nominal_bytes(shapes: Mapping[str, tuple[int, ...]], bits: float) -> int:
    """Bytes with tensors of at least two dimensions at ``bits`` a number, all others in fp32, and no steps."""
    total = 0.0
    for shape in shapes.values():
        total += math.prod(shape) * (bits / 8 if len(shape) > 1 else FP32_BYTES)
    return math.ceil(total)
