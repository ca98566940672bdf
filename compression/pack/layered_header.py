"""The beginning of a layered file (:mod:`.layered`): believed only once every row and part fits the file's bytes."""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from compression.encodings.base import Shape
from compression.pack.header import MOST_TENSORS, PREFIX, inflated, shortage
from compression.pack.rows import ALIAS, RAW, Row, check, raw_bytes
from compression.quant.nested import MOST_PLANES, OFFSET
from compression.reading import Name, Signed, Whole, cut, json_object, typed

MAGIC, VERSION = b"CXLAYR", 1
PLANES, STATISTICS = "planes", -1
SHARES = 256
CRC = struct.Struct("<I")


Entry = tuple[int, int, int]


class Part(NamedTuple):
    """A plane of the weight at place ``weight``, or statistics (-1), as coded ``data``.

    ``share``, in 256ths: how much of the statistics read last still applies once this plane is read.
    """

    weight: int
    data: bytes
    share: int = SHARES


class PlanesRow(TypedDict):
    """A weight of ``planes`` bit planes; ``axis``: the dimension of its channels where these have steps of their own.

    ``grid`` is one of :data:`compression.quant.nested.GRIDS`; ``offset`` has as many fp32 offsets as steps.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    name: Name
    kind: Literal["planes"]
    shape: Shape
    planes: Annotated[Whole, Field(le=MOST_PLANES)]
    grid: Literal["dead-zone", "uniform", "offset"]
    axis: NotRequired[Whole]


class LayeredHeader(TypedDict):
    """See :mod:`.layered`."""

    tensors: Annotated[list[dict[str, Any]], Field(max_length=MOST_TENSORS)]
    base: Whole
    statistics: Annotated[list[Name], Field(max_length=MOST_TENSORS)]
    order: Annotated[
        list[tuple[Signed, Whole, Annotated[Whole, Field(le=SHARES)]]], Field(max_length=MOST_TENSORS * MOST_PLANES)
    ]


_HEADER, _ROW = TypeAdapter(LayeredHeader), TypeAdapter(PlanesRow)


def tensor_name(layer: str) -> str:
    """The name of a layer's weight in a state dict."""
    return f"{layer}.weight" if layer else "weight"


def layer_name(row: Row) -> str:
    """The layer whose weight a row is."""
    return str(row["name"]).removesuffix("weight").removesuffix(".")


def number_count(row: Row) -> int:
    """How many fp32 numbers a weight has: steps, and as many offsets where its grid needs them."""
    steps = int(row["shape"][row["axis"]]) if "axis" in row else 1
    return steps * (2 if row["grid"] == OFFSET else 1)


def parse(data: bytes) -> tuple[LayeredHeader, int, list[Entry]]:
    """The header, where the parts begin, and those that are whole (weight, bytes, share): the file must end with one.

    Raises:
        ValueError, CompressionError: saying what is not as in a layered file.
    """
    if len(data) < PREFIX.size or data[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin like one")
    _, version, length, checksum = PREFIX.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"its format version is {version}, this program reads {VERSION}")
    if PREFIX.size + length > len(data):
        raise ValueError("it ends within its header")
    body = memoryview(data)[PREFIX.size :]
    header = typed(_HEADER, json_object(inflated(body[:length]), "its header"), "its header")
    start = PREFIX.size + length + header["base"]
    if start > len(data):
        raise ValueError(f"it ends before its first plane, which begins at byte {start:,}")
    if zlib.crc32(body[: length + header["base"]]) != checksum:
        raise ValueError("damaged: the checksum of its beginning does not match")
    _check_rows(header, len(data))
    _check_order(header)
    return header, start, _whole_parts(header["order"], start, len(data))


def _whole_parts(order: Sequence[Entry], start: int, size: int) -> list[Entry]:
    ends = [start, *accumulate((part for _, part, _ in order), initial=start)][1:]
    if size not in ends:
        before = max((end for end in ends if end < size), default=start)
        after = min((end for end in ends if end > size), default=None)
        hint = f"cut it at {before:,}" + (f" or {after:,}" if after is not None else ", where it ends")
        raise ValueError(f"its {size:,} bytes end within a plane: {hint}")
    return list(order[: len(ends) - 1 - ends[::-1].index(size)])


def _check_rows(header: LayeredHeader, size: int) -> None:
    """Refuse rows that fit neither each other nor the base."""
    needed = codes = 0
    shapes: dict[str, Row] = {}
    for row in header["tensors"]:
        if row.get("kind") == PLANES:
            typed(_ROW, row, "a row of planes")
            if row.get("axis", 0) >= max(1, len(row["shape"])) or ("axis" in row and not row["shape"]):
                raise ValueError(f"{cut(row['name'])} has no dimension {row['axis']}")
            if tensor_name(layer_name(row)) != row["name"]:
                raise ValueError(f"{cut(row['name'])} is no weight of a layer")
            needed += 4 * number_count(row)
            codes += math.prod(row["shape"])
        else:
            check(row)
            if row["kind"] not in (RAW, ALIAS) or (row["kind"] == ALIAS and row["target"] not in shapes):
                raise ValueError(f"{cut(row['name'])} is no tensor that a layered file has")
            needed += raw_bytes(row) if row["kind"] == RAW else 0
        if row["name"] in shapes:
            raise ValueError(f"{cut(row['name'])} is there twice")
        shapes[row["name"]] = row
    if needed > header["base"] or shortage(codes, size):
        raise ValueError("its tensors need more bytes than are there")
    for name in header["statistics"]:
        if shapes.get(name, {}).get("dtype") != "float32":
            raise ValueError(f"{cut(name)} has no statistics")


def _check_order(header: LayeredHeader) -> None:
    """Refuse parts of weights that are not there, more planes than a weight has, statistics of another size."""
    most = [row["planes"] for row in header["tensors"] if row["kind"] == PLANES]
    rows = {row["name"]: row for row in header["tensors"]}
    halves = sum(math.prod(rows[name]["shape"]) for name in header["statistics"])
    for weight, size, _ in header["order"]:
        if not STATISTICS <= weight < len(most) or size < CRC.size:
            raise ValueError("its order names a plane that no weight has")
        if weight == STATISTICS and size - CRC.size not in (0, 2 * halves):
            raise ValueError("its statistics are those of other tensors")
    counts = Counter(weight for weight, *_ in header["order"] if weight != STATISTICS)
    if any(counts[weight] != planes for weight, planes in enumerate(most)):
        raise ValueError("its order does not name every plane of its weights once")
