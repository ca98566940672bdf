"""What a packed file can hold: plain, dense tensors of the usual types, under names; their rows and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from compression.errors import CompressionError
from compression.pack.rows import DTYPES, RAW, Row


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


def named_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor, str | None]]:
    """Name, tensor on the CPU, and the earlier name under which the same tensor was there already.

    Raises:
        CompressionError: the state holds something that no file can.
    """
    check_storable(state)
    earlier: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        twin = earlier.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), name)
        yield name, tensor, twin if twin != name and tensor.numel() else None


def raw_row(name: str, tensor: torch.Tensor) -> Row:
    """The row of a tensor that is stored as it is."""
    return {"name": name, "kind": RAW, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def raw_data(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's values."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
