"""The header of a safetensors file: checked within bounds before the library that reads the tensors sees the file.

A file begins with the header's length (uint64, little-endian) and the header itself: JSON of names with ``dtype``,
``shape`` and ``data_offsets``, and of ``__metadata__``, texts by name. The tensors' raw bytes follow.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from compression.errors import CompressionError
from compression.reading import Text, Whole, cut, json_object, open_regular, typed

MOST_HEADER = 8 << 20
"""Bytes; a network of 2,000 tensors has 200 KB."""
MOST_DIMENSIONS, MOST_NUMBERS = 16, 1 << 40
_LENGTH = 8
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


class _Tensor(TypedDict):
    dtype: Literal[
        "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64"
    ]
    shape: Annotated[list[Whole], Field(max_length=MOST_DIMENSIONS)]
    data_offsets: tuple[Whole, Whole]


_METADATA = TypeAdapter(dict[str, Text])
_TENSORS = TypeAdapter(dict[str, _Tensor])


def metadata(path: str | Path, what: str) -> dict[str, str]:
    """The texts that a file's header holds, once the whole header is known to describe the file.

    Raises:
        CompressionError: no readable safetensors file, or a header that does not fit the file, by name.
    """
    return _read(path, what)[0]


def shapes(path: str | Path, what: str) -> dict[str, tuple[int, ...]]:
    """Name → shape of the tensors in a file; their numbers are not read.

    Raises:
        CompressionError: as :func:`metadata`.
    """
    return {name: tuple(tensor["shape"]) for name, tensor in _read(path, what)[1].items()}


def _read(path: str | Path, what: str) -> tuple[dict[str, str], dict[str, _Tensor]]:
    with open_regular(path, what) as file:
        start = file.read(_LENGTH)
        length = int.from_bytes(start, "little")
        if length > MOST_HEADER:
            raise CompressionError(
                f"{what} {path} cannot be read: its header claims {length:,} bytes, more than the {MOST_HEADER:,} that "
                "are read"
            )
        return _checked(start + file.read(length), os.fstat(file.fileno()).st_size, f"{what} {path}")


def check(data: bytes | memoryview, size: int, what: str) -> dict[str, str]:
    """The texts of the header with which ``data`` begins, of a file of ``size`` bytes.

    Raises:
        CompressionError: as :func:`metadata`.
    """
    return _checked(data, size, what)[0]


def _checked(data: bytes | memoryview, size: int, what: str) -> tuple[dict[str, str], dict[str, _Tensor]]:
    length = int.from_bytes(data[:_LENGTH], "little")
    if length > min(MOST_HEADER, len(data) - _LENGTH):
        raise CompressionError(f"{what} cannot be read: it ends within its header")
    header = json_object(bytes(data[_LENGTH : _LENGTH + length]), f"the header of {what}")
    texts = typed(_METADATA, header.pop("__metadata__", {}), f"{what}: __metadata__")
    tensors = typed(_TENSORS, header, what)
    for name, tensor in tensors.items():
        _check_tensor(cut(name), tensor, size - _LENGTH - length, what)
    return texts, tensors


def _check_tensor(name: str, tensor: _Tensor, size: int, what: str) -> None:
    begin, end = tensor["data_offsets"]
    if not begin <= end <= size:
        raise CompressionError(f"{what} cannot be read: {name} reaches beyond the end of the file")
    if math.prod(max(1, count) for count in tensor["shape"]) > MOST_NUMBERS:
        raise CompressionError(f"{what} cannot be read: {name} has an impossible shape")
    if math.prod(tensor["shape"]) * _BYTES[tensor["dtype"]] != end - begin:
        raise CompressionError(f"{what} cannot be read: {name} has a shape that does not fit its bytes")
