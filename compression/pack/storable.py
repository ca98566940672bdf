"""What a packed file can hold: plain, dense tensors of the usual types, under names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from compression.errors import CompressionError
from compression.pack.rows import DTYPES


def check_storable(state: Mapping[str, Any]) -> None:
    """Refuse a state that cannot be packed.

    Raises:
        CompressionError: naming the first entry that is no plain tensor, and what it is.
    """
    for name, value in state.items():
        plain = isinstance(value, torch.Tensor) and type(value.data) is torch.Tensor
        if not plain or value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise CompressionError(f"{name} in the model's state cannot be packed: it is no plain tensor of numbers")
        if str(value.dtype).removeprefix("torch.") not in DTYPES:
            raise CompressionError(f"{name} in the model's state cannot be packed: files hold no {value.dtype}")
