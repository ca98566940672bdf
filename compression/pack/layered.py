"""``weights.layered``: one file of which every prefix that ends between two planes is a whole model.

    8 bytes   b"CXLAYR" and the version (1) as uint16
    8 bytes   uint32 length of the header, uint32 CRC-32 of the header and the base
    header    zlib of JSON {"tensors", "base", "statistics", "order"}, with the preset dictionary of :mod:`.header`
    base      fp32 numbers of the weights (steps, then offsets), tensors stored as they are, zeros; ``base`` bytes
    parts     in the order of ``order``: [w, bytes, share], the w-th weight's next plane; [-1, bytes, 256], statistics

``tensors`` are rows in the state dict's order, of kinds ``raw`` and ``alias`` (:mod:`.rows`) and ``planes``
(:class:`.layered_header.PlanesRow`). A part ends with the CRC-32 of what is before it in the part. A part of statistics
holds fp16 differences to the tensors named in ``statistics``, one after the other, which apply from there on until the
next such part: all of them at first, ``share`` / 256 of them once a plane behind them is read, since what they correct
becomes less; without any bytes it means those tensors as the base has them. Planes: :mod:`.planes`; what a prefix of
them stands for: :mod:`compression.quant.nested`. Everything is little-endian.

Read ``n`` bytes: the header says where one may stop (:func:`cuts`); a file cut elsewhere is refused.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from compression.counting.ledger import Ledger
from compression.errors import CompressionError
from compression.graph.names import is_quantizer_name
from compression.pack import planes
from compression.pack.container import MOST_BYTES
from compression.pack.layered_header import (
    CRC,
    PLANES,
    SHARES,
    STATISTICS,
    LayeredHeader,
    Part,
    layer_name,
    number_count,
    parse,
    tensor_name,
)
from compression.pack.rows import ALIAS, RAW, Row, raw_bytes, raw_tensor
from compression.pack.streams import Codes
from compression.quant.integers import IntegerWeight, Step
from compression.quant.nested import OFFSET, coarser
from compression.reading import read_bytes

T = TypeVar("T")


class Cut(NamedTuple):
    """A place where reading may end: so many ``bytes``, and the planes of each weight (layer → planes) in them."""

    bytes: int
    planes: dict[str, int]


@dataclass
class _Prefix:
    """What a prefix holds: codes and planes by the weight's place, the state's other tensors by name."""

    header: LayeredHeader
    data: bytes
    start: int
    parts: list[Part]
    codes: list[Codes] = field(default_factory=list)
    planes: list[int] = field(default_factory=list)
    values: int = 0
    positions: int = 0
    differences: bytes = b""
    share: int = SHARES

    @property
    def weights(self) -> list[Row]:
        return [row for row in self.header["tensors"] if row["kind"] == PLANES]


def read(path: str | Path, up_to: int | None = None) -> dict[str, torch.Tensor]:
    """The state dict of the model that the first ``up_to`` bytes of a layered file are (``None``: all of it).

    Raises:
        CompressionError: the file cannot be read, is none of ours, is damaged, or ends within a part.
    """
    prefix = _read(path, up_to)
    quantized = {tensor_name(name): weight.weight() for name, weight in _integers(prefix).items()}
    tensors = {**_raw(prefix), **quantized}
    for row in prefix.header["tensors"]:
        if row["kind"] == ALIAS:
            tensors[row["name"]] = tensors[row["target"]]
    return {row["name"]: tensors[row["name"]] for row in prefix.header["tensors"]}


def integers(path: str | Path, up_to: int | None = None) -> dict[str, IntegerWeight]:
    """Layer name → its weight in that prefix, as a packed file could hold it.

    Raises:
        CompressionError: as :func:`read`.
    """
    return _integers(_read(path, up_to))


def cuts(path: str | Path) -> list[Cut]:
    """Where reading may end, from no plane to all of them; statistics are read with the plane before them.

    Raises:
        CompressionError: as :func:`read`.
    """
    header, at, _ = _guarded(path, None, parse)
    names = [layer_name(row) for row in header["tensors"] if row["kind"] == PLANES]
    planes_read = dict.fromkeys(names, 0)
    result = [Cut(at, dict(planes_read))]
    for weight, size, _ in header["order"]:
        at += size
        if weight == STATISTICS:
            result.pop()
        else:
            planes_read[names[weight]] += 1
        result.append(Cut(at, dict(planes_read)))
    return result


def ledger(path: str | Path, up_to: int | None = None) -> Ledger:
    """Where the bytes of a prefix are; statistics count as leftovers, checksums as container.

    Raises:
        CompressionError: as :func:`read`.
    """
    prefix = _read(path, up_to)
    raw = [row for row in prefix.header["tensors"] if row["kind"] == RAW]
    scales = 4 * sum(number_count(row) for row in prefix.weights)
    scales += sum(raw_bytes(row) for row in raw if is_quantizer_name(row["name"]))
    leftovers = sum(raw_bytes(row) for row in raw if not is_quantizer_name(row["name"]))
    leftovers += sum(len(part.data) for part in prefix.parts if part.weight == STATISTICS)
    container = len(prefix.data) - prefix.values - prefix.positions - scales - leftovers
    return Ledger(prefix.values, prefix.positions, scales, leftovers, container, len(prefix.data))


def _read(path: str | Path, up_to: int | None) -> _Prefix:
    return _guarded(path, up_to, _decoded)


def _guarded(path: str | Path, up_to: int | None, read: Callable[[bytes], T]) -> T:
    data = read_bytes(path, "cannot read", MOST_BYTES)
    if up_to is not None:
        if not 0 <= up_to <= len(data):
            raise CompressionError(f"{path} has {len(data):,} bytes: its first {up_to:,} cannot be read")
        data = data[:up_to]
    try:
        return read(data)
    except (ValueError, zlib.error, struct.error, CompressionError) as error:
        raise CompressionError(f"{path} is no sound layered file ({error}); export it again") from error


def _decoded(data: bytes) -> _Prefix:
    header, start, sizes = parse(data)
    prefix, at = _Prefix(header, data, start, []), start
    prefix.codes = [np.zeros(math.prod(row["shape"]), dtype=np.int32) for row in prefix.weights]
    prefix.planes = [0] * len(prefix.codes)
    for weight, size, share in sizes:
        coded = data[at : at + size - CRC.size]
        at += size
        if CRC.unpack(data[at - CRC.size : at]) != (zlib.crc32(coded),):
            raise ValueError("damaged: the checksum of a plane does not match")
        prefix.parts.append(Part(weight, coded))
        prefix.share = share
        if weight == STATISTICS:
            prefix.differences = coded
            continue
        values, positions = planes.split(prefix.codes[weight], coded)
        prefix.values, prefix.positions = prefix.values + values, prefix.positions + positions
        prefix.codes[weight] = planes.decode(prefix.codes[weight], coded)
        prefix.planes[weight] += 1
    return prefix


def _integers(prefix: _Prefix) -> dict[str, IntegerWeight]:
    at, result = prefix.start - prefix.header["base"], {}
    for row, codes, known in zip(prefix.weights, prefix.codes, prefix.planes, strict=True):
        count = number_count(row)
        numbers = np.frombuffer(prefix.data, dtype="<f4", count=count, offset=at)
        at += 4 * count
        step, *offset = (_step(part, row) for part in np.split(numbers, 2 if row["grid"] == OFFSET else 1))
        wide = torch.from_numpy(codes).reshape(row["shape"])
        layer = layer_name(row)
        result[layer] = coarser(layer, wide, step, row["planes"], known, row["grid"], offset[0] if offset else None)
    return result


def _raw(prefix: _Prefix) -> dict[str, torch.Tensor]:
    at = prefix.start - prefix.header["base"] + 4 * sum(number_count(row) for row in prefix.weights)
    tensors = {}
    for row in prefix.header["tensors"]:
        if row["kind"] == RAW:
            tensors[row["name"]] = raw_tensor(memoryview(prefix.data)[at : at + raw_bytes(row)], row)
            at += raw_bytes(row)
    share = np.float32(prefix.share / SHARES)
    half, used = np.frombuffer(prefix.differences, dtype="<f2"), 0
    for name in prefix.header["statistics"] if len(half) else ():
        own, used = half[used : used + tensors[name].numel()], used + tensors[name].numel()
        tensors[name] = tensors[name] + torch.from_numpy(own.astype(np.float32) * share).reshape(tensors[name].shape)
        if name.endswith("var"):
            tensors[name].clamp_(min=0)
    return tensors


def _step(numbers: np.ndarray[Any, np.dtype[np.float32]], row: Row) -> Step:
    if "axis" not in row:
        return float(numbers[0])
    shape = [-1 if dim == row["axis"] else 1 for dim in range(len(row["shape"]))]
    return torch.from_numpy(numbers.astype(np.float32)).reshape(shape)
