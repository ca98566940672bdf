"""The beginning of a packed file: its checksum and its header, believed only once every row fits the file's bytes.

What a row claims (shapes, lengths, positions) is bounded against the file before memory is taken for it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from compression.encodings import list_rows
from compression.errors import CompressionError
from compression.pack.rows import ALIAS, RAW, Row, check, code_count, number_bytes, raw_bytes, stream_bytes
from compression.reading import Whole, cut, json_object, typed

MAGIC, VERSION = b"CXPACK", 4
LISTS = 3
"""The last version whose rows are lists."""
PREFIX = struct.Struct("<6sHII")
WORDS = (
    b'"kind":"alias","target":"num_batches_tracked","dtype":"int64"},{"name":"running_var","kind":"raw","shape":[64],'
    b'"dtype":"float32"},{"name":"running_mean"bn1.bias"offset-channel"layer1.0.{"codes":123456789,"tensors":[{"name":'
    b'"conv1.weight","kind":"uniform-channel","shape":[64,64,3,3],"bits":4,"axis":0,"numbers":{"step":1,"offset":1},'
    b'"streams":{"codes":{"coding":"ans","bytes":'
)
"""The preset dictionary of version 4's deflated header (RFC 1950, section 2.2), part of the format: with it the names
of the fields cost next to nothing, also in a file of one weight."""
MOST_HEADER = 4 << 20
"""Bytes of the inflated header; a network of 2,000 tensors has 300 KB."""
MOST_TENSORS = 50_000
FREE_CODES, CODES_A_BYTE = 1 << 22, 512
"""A file of n bytes holds at most ``FREE_CODES + CODES_A_BYTE * n`` codes: constant ones take no bytes at all."""


class Header(TypedDict):
    """``codes`` is the CRC-32 of all decoded codes, ``tensors`` the rows in the order of the state dict."""

    codes: Whole
    tensors: Annotated[list[dict[str, Any]], Field(max_length=MOST_TENSORS)]


class _ListHeader(TypedDict):
    codes: Whole
    tensors: Annotated[list[list[Any]], Field(max_length=MOST_TENSORS)]


_HEADER, _LIST_HEADER = TypeAdapter(Header), TypeAdapter(_ListHeader)


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
    header = _rows(json_object(inflated(body[:length]), "its header"), version)
    _check(header["tensors"], len(body) - length, len(data))
    return header, body[length:]


def padding(rows: Sequence[Row], size: int) -> int:
    """How many bytes a file of ``size`` bytes lacks to be allowed so many codes; 0 but for huge constant weights."""
    return shortage(sum(code_count(row) for row in rows if row["kind"] not in (RAW, ALIAS)), size)


def shortage(codes: int, size: int) -> int:
    """How many bytes a file of ``size`` bytes lacks to be allowed so many codes."""
    return max(0, -(-(codes - FREE_CODES) // CODES_A_BYTE) - size)


def deflated(header: Mapping[str, Any]) -> bytes:
    """The header as it is written.

    Raises:
        CompressionError: it is larger than any that is read.
    """
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > MOST_HEADER or len(header["tensors"]) > MOST_TENSORS:
        raise CompressionError(f"{len(header['tensors']):,} tensors are more than one packed file can name")
    deflater = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, WORDS)
    return deflater.compress(text) + deflater.flush()


def inflated(data: memoryview) -> bytes:
    """The JSON text of a deflated header.

    Raises:
        ValueError, zlib.error: it is damaged, or larger than any that is written.
    """
    inflater = zlib.decompressobj(zdict=WORDS)
    text = inflater.decompress(data, MOST_HEADER)
    if not inflater.eof:
        raise ValueError(f"its header ends early, or is larger than {MOST_HEADER:,} bytes")
    return text


def _rows(value: dict[str, Any], version: int) -> Header:
    """The header with the rows of version 4, whatever the file's version."""
    if version > LISTS:
        return typed(_HEADER, value, "its header")
    header = typed(_LIST_HEADER, value, "its header")
    return {"codes": header["codes"], "tensors": [list_rows.read(row) for row in header["tensors"]]}


def _check(rows: Sequence[Row], room: int, size: int) -> None:
    """Refuse rows that fit neither each other, nor the ``room`` behind the header, nor a file of ``size`` bytes."""
    names: set[str] = set()
    needed = 0
    for row in rows:
        check(row)
        name = row["name"]
        if name in names:
            raise ValueError(f"{cut(name)} is there twice")
        if row["kind"] == ALIAS:
            if row["target"] not in names:
                raise ValueError(f"{cut(name)} is the same as {cut(row['target'])}, which is not there before it")
        else:
            needed += raw_bytes(row) if row["kind"] == RAW else number_bytes(row) + stream_bytes(row)
        names.add(name)
    if needed > room:
        raise ValueError(f"its tensors need {needed:,} bytes, {room:,} are there")
    if padding(rows, size):
        raise ValueError("it claims more codes than a file of its size can hold")
