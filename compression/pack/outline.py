"""Names, shapes and types of a packed file's tensors, from its header alone: nothing is decoded."""

from __future__ import annotations

import struct
import zlib
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from compression.errors import CompressionError
from compression.pack.container import MAGIC, PREFIX
from compression.pack.rows import DTYPES, is_coded
from compression.reading import json_object, typed

MOST_HEADER = 16 << 20
Outline = dict[str, tuple[tuple[int, ...], str]]
_WHAT = "weights.packed"
_ROWS = TypeAdapter(list[Annotated[list[Any], Field(min_length=2, max_length=7)]])
_SHAPE = TypeAdapter(Annotated[list[Annotated[int, Field(strict=True, ge=0, le=2**31)]], Field(max_length=8)])


def outline(data: bytes) -> Outline:
    """Tensor name → shape and name of its type (coded weights are ``float32``), of the bytes of a packed file.

    Raises:
        CompressionError: the header cannot be read, or says something that is none of a tensor.
    """
    try:
        magic, _, length, _ = PREFIX.unpack_from(data)
        inflater = zlib.decompressobj()
        text = inflater.decompress(data[PREFIX.size : PREFIX.size + length], MOST_HEADER)
    except (struct.error, zlib.error) as error:
        raise CompressionError(f"{_WHAT} is no sound packed file: {error}") from error
    if magic != MAGIC or not inflater.eof:
        raise CompressionError(f"{_WHAT} is no sound packed file, or its header is too large")
    result: Outline = {}
    for row in typed(_ROWS, json_object(text, _WHAT).get("tensors"), f"{_WHAT}: tensors"):
        name = row[0]
        if not isinstance(name, str) or name in result:
            raise CompressionError(f"{_WHAT} names a tensor twice, or not at all")
        result[name] = _same(result, name, row[1]) if len(row) == 2 else _own(name, row)
    return result


def _same(earlier: Outline, name: str, other: Any) -> tuple[tuple[int, ...], str]:
    if not isinstance(other, str) or other not in earlier:
        raise CompressionError(f"{_WHAT}: {name} is the same as a tensor that does not stand before it")
    return earlier[other]


def _own(name: str, row: list[Any]) -> tuple[tuple[int, ...], str]:
    kind = "float32" if is_coded(row) else row[2] if len(row) == 3 else None
    if not isinstance(kind, str) or kind not in DTYPES:
        raise CompressionError(f"{_WHAT}: {name} has a type that is not known here")
    shape: list[int] = typed(_SHAPE, row[1], f"{_WHAT}: shape of {name}")
    return tuple(shape), kind
