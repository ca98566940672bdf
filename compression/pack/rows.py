"""The rows of a packed file's header that are no quantized weights, and what all rows have in common.

A row is a JSON object with a ``name`` and a ``kind``. A tensor stored as it is has kind ``raw``, one that is the same
as an earlier one kind ``alias``; every other kind is an encoding of a quantized weight (:mod:`compression.encodings`).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from compression import encodings
from compression.encodings.base import Shape, stream_size
from compression.reading import Name, cut, typed

RAW, ALIAS = "raw", "alias"
MOST_NUMBERS = 1 << 40
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32, torch.float64, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip

Row = dict[str, Any]


class _AnyRow(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    name: Name
    kind: Name


class _RawRow(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    name: Name
    kind: Literal["raw"]
    shape: Shape
    dtype: Name


class _AliasRow(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    name: Name
    kind: Literal["alias"]
    target: Name


_ANY, _RAW, _ALIAS = TypeAdapter(_AnyRow), TypeAdapter(_RawRow), TypeAdapter(_AliasRow)


def check(row: Row) -> None:
    """Refuse a row that says something impossible of its tensor.

    Raises:
        ValueError, CompressionError: saying what.
    """
    typed(_ANY, row, "a row")
    name = cut(row["name"])
    if row["kind"] == ALIAS:
        typed(_ALIAS, row, f"row {name}")
        return
    if row["kind"] == RAW:
        typed(_RAW, row, f"row {name}")
        if row["dtype"] not in DTYPES:
            raise ValueError(f"{name} has the unknown type {cut(row['dtype'])}")
    else:
        encodings.get(row["kind"]).check(row)
    if math.prod(max(1, size) for size in row["shape"]) > MOST_NUMBERS:
        raise ValueError(f"{name} has an impossible shape")


def is_weight(row: Row) -> bool:
    """Whether the row is that of a quantized weight."""
    return row["kind"] not in (RAW, ALIAS)


def code_count(row: Row) -> int:
    """The memory that a row of a quantized weight calls for, in numbers: its elements, or its integers if more."""
    return max(math.prod(row["shape"]), sum(stream_size(row, stream) for stream in row["streams"]))


def number_bytes(row: Row) -> int:
    """Bytes of a quantized weight's fp32 numbers."""
    return 4 * sum(row["numbers"].values())


def stream_bytes(row: Row) -> int:
    """Bytes of a quantized weight's streams."""
    return sum(stream["bytes"] for stream in row["streams"].values())


def raw_bytes(row: Row) -> int:
    """Bytes of a tensor that is stored as it is."""
    return math.prod(row["shape"]) * DTYPES[row["dtype"]].itemsize


def raw_tensor(data: memoryview, row: Row) -> torch.Tensor:
    """A tensor from the bytes of its values."""
    shape, dtype = row["shape"], DTYPES[row["dtype"]]
    if not len(data):
        return torch.zeros(shape, dtype=dtype)
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy()).view(dtype).reshape(shape)
