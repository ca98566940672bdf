"""The beginning of a packed file: its checksum and its header, believed only once every row fits the file's bytes.

What a row claims (shapes, lengths, positions) is bounded against the file before memory is taken for it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from compression.pack.rows import CODED, DTYPES, PER_CHANNEL, SHIFTED, Row, is_coded, leftover_size, scale_count
from compression.reading import Name, Whole, cut, json_object, short, typed

MAGIC, VERSION = b"CXPACK", 3
PREFIX = struct.Struct("<6sHII")
MOST_HEADER = 2 << 20
"""Bytes of the inflated header; a network of 2,000 tensors has 150 KB."""
MOST_TENSORS = 50_000
FREE_CODES, CODES_A_BYTE = 1 << 22, 512
"""A file of n bytes holds at most ``FREE_CODES + CODES_A_BYTE * n`` codes: constant ones take no bytes at all."""
MOST_NUMBERS = 1 << 40

_Shape = Annotated[list[Whole], Field(max_length=16)]
_Bits = Annotated[Whole, Field(ge=1, le=32)]
_Coding = Literal["ans", "fixed", "bitmap"]
_ROWS: dict[int, TypeAdapter[Any]] = {
    2: TypeAdapter(tuple[Name, Name]),
    3: TypeAdapter(tuple[Name, _Shape, Name]),
    CODED: TypeAdapter(tuple[Name, _Shape, _Coding, Whole, _Bits]),
    PER_CHANNEL: TypeAdapter(tuple[Name, _Shape, _Coding, Whole, _Bits, Whole]),
    SHIFTED: TypeAdapter(tuple[Name, _Shape, _Coding, Whole, _Bits, None, Literal[1]]),
}


class Header(TypedDict):
    """``codes`` is the CRC-32 of all decoded codes, ``tensors`` the rows of :mod:`.rows` in the state dict's order."""

    codes: Whole
    tensors: Annotated[list[list[Any]], Field(max_length=MOST_TENSORS)]


_HEADER = TypeAdapter(Header)


def parse(data: bytes) -> tuple[Header, memoryview]:
    """The header, and everything behind it, after the checksum has been compared and every row checked.

    Raises:
        ValueError, CompressionError: saying what is not as in a packed file.
    """
    if len(data) < PREFIX.size or data[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin like one")
    _, version, length, checksum = PREFIX.unpack_from(data)
    if not 1 <= version <= VERSION:
        raise ValueError(f"its format version is {version}, this program reads up to {VERSION}")
    body = memoryview(data)[PREFIX.size :]
    if length > len(body) or zlib.crc32(body) != checksum:
        raise ValueError("truncated or damaged: the checksum does not match")
    header = typed(_HEADER, json_object(_inflated(body[:length]), "its header"), "its header")
    _check(header["tensors"], len(body) - length, len(data))
    return header, body[length:]


def padding(rows: Sequence[Row], size: int) -> int:
    """How many bytes a file of ``size`` bytes lacks to be allowed so many codes; 0 but for huge constant weights."""
    codes = sum(math.prod(row[1]) for row in rows if is_coded(row))
    return max(0, -(-(codes - FREE_CODES) // CODES_A_BYTE) - size)


def _inflated(data: memoryview) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, MOST_HEADER)
    if not inflater.eof:
        raise ValueError(f"its header ends early, or is larger than {MOST_HEADER:,} bytes")
    return text


def _check(rows: Sequence[Row], room: int, size: int) -> None:
    """Refuse rows that fit neither each other, nor the ``room`` behind the header, nor a file of ``size`` bytes."""
    names: set[str] = set()
    needed = 0
    for row in rows:
        _check_row(row, names)
        names.add(row[0])
        if is_coded(row):
            needed += row[3] + 4 * scale_count(row)
        elif len(row) == 3:
            needed += leftover_size(row)
    if needed > room:
        raise ValueError(f"its tensors need {needed:,} bytes, {room:,} are there")
    if padding(rows, size):
        raise ValueError("it claims more codes than a file of its size can hold")


def _check_row(row: Row, earlier: set[str]) -> None:
    kind = _ROWS.get(len(row))
    if kind is None:
        raise ValueError(f"no tensor has a row of {len(row)} entries")
    typed(kind, row, f"row {short(row[0])}")
    name = cut(row[0])
    if row[0] in earlier:
        raise ValueError(f"{name} is there twice")
    if len(row) == 2:
        if row[1] not in earlier:
            raise ValueError(f"{name} is the same as {cut(row[1])}, which is not there before it")
        return
    if math.prod(max(1, count) for count in row[1]) > MOST_NUMBERS:
        raise ValueError(f"{name} has an impossible shape")
    if len(row) == 3 and row[2] not in DTYPES:
        raise ValueError(f"{name} has the unknown type {cut(row[2])}")
    if len(row) == PER_CHANNEL and row[CODED] >= len(row[1]):
        raise ValueError(f"{name} has {len(row[1])} dimensions, no dimension {row[CODED]}")
