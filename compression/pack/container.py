"""``weights.packed``: magic, version, checksum, a deflated JSON header, then steps, code streams and fp32 leftovers.

    8 bytes   b"CXPACK" and the version as uint16
    8 bytes   uint32 length of the header, uint32 CRC-32 of everything after these 16 bytes
    header    zlib of JSON {"codes": CRC-32 of all decoded codes, "tensors": [row, ...]} in the order of the state dict
    steps     fp32, of each coded weight; then the coded weights' streams; then the leftovers' raw bytes
    zeros     only behind huge constant weights, so that no small file may claim much memory (:mod:`.header`)

Rows are those of :mod:`.rows`. Everything is little-endian. Version 1 has one step for each weight, version 2 steps for
channels, version 3 offsets; a file has the lowest version that can express it.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from compression.errors import CompressionError
from compression.pack.account import Ledger, account
from compression.pack.header import MAGIC, PREFIX, Header, padding, parse
from compression.pack.rows import VERSIONS, Row, coded_row, is_coded, leftover, scale_count, scales, step_of
from compression.pack.storable import check_storable
from compression.pack.streams import decode, encode
from compression.quant.integers import IntegerWeight, fold, integer_weights
from compression.reading import read_bytes

T = TypeVar("T")
MOST_BYTES = 1 << 36


def pack(model: nn.Module, path: str | Path, integers: Mapping[str, IntegerWeight] | None = None) -> Ledger:
    """Write a model's whole state: quantized weights as coded integers, the rest as it is.

    The file appears whole, or not at all. ``model`` may carry quantizers or be plain. A plain model's weights are
    integers where ``integers`` (layer name → its weight) knows them, else everything is a leftover, which is what a
    baseline's bytes are.

    Raises:
        CompressionError: the file cannot be written, or the model holds something that is no tensor.
    """
    known = integer_weights(model) if integers is None else dict(integers)
    data = to_bytes(fold(model).state_dict(), known)
    _write(Path(path), data)
    return ledger(path)


def unpack(path: str | Path) -> dict[str, torch.Tensor]:
    """The full state dict of the plain model, fp32 weights bit for bit as they were evaluated.

    Raises:
        CompressionError: the file cannot be read, is none of ours, is truncated or damaged.
    """
    return {row[0]: tensor for row, tensor in rows(path)}


def rows(path: str | Path) -> list[tuple[Row, torch.Tensor]]:
    """Every row of the header with its tensor, in the order of the state dict.

    Raises:
        CompressionError: as :func:`unpack`.
    """
    return _guarded(path, lambda data: list(_tensors(*parse(data))))


def integers(path: str | Path) -> dict[str, IntegerWeight]:
    """Layer name → its weight as the integers that the file holds; weights kept in floating point are left out.

    Raises:
        CompressionError: as :func:`unpack`.
    """
    coded = _guarded(path, lambda data: list(_coded(*parse(data))))
    return {weight.name: weight for weight in coded}


def ledger(path: str | Path) -> Ledger:
    """Where the bytes of a packed file went, read from the file itself.

    Raises:
        CompressionError: as :func:`unpack`.
    """
    return _guarded(path, lambda data: account(data, *parse(data)))


def to_bytes(state: dict[str, Any], integers: dict[str, IntegerWeight]) -> bytes:
    """The packed file of a plain state dict, some of whose weights are known as integers (layer name → integers)."""
    coded = {f"{name}.weight" if name else "weight": integer for name, integer in integers.items()}
    rows: list[Row] = []
    steps, streams, leftovers = bytearray(), bytearray(), bytearray()
    checksum = 0
    earlier: dict[tuple[Any, ...], str] = {}
    check_storable(state)
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        twin = earlier.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), name)
        if twin != name and tensor.numel():
            rows.append([name, twin])
        elif name in coded:
            codes = _checked_codes(coded[name], tensor)
            checksum = zlib.crc32(codes.astype("<i4", copy=False).data, checksum)
            stream = encode(codes)
            rows.append(coded_row(name, coded[name], stream.coding, len(stream.data)))
            steps += scales(coded[name])
            streams += stream.data
        else:
            rows.append([name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")])
            leftovers += tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    text = json.dumps({"codes": checksum, "tensors": rows}, separators=(",", ":"))
    header = zlib.compress(text.encode(), 9)
    body = header + steps + streams + leftovers
    body += bytes(padding(rows, PREFIX.size + len(body)))
    version = max((VERSIONS.get(len(row), 1) for row in rows), default=1)
    return PREFIX.pack(MAGIC, version, len(header), zlib.crc32(body)) + body


def _checked_codes(integer: IntegerWeight, weight: torch.Tensor) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The codes of a weight, which give it bit for bit in fp32, or once they are rounded to its half precision."""
    half = weight.dtype in (torch.float16, torch.bfloat16)
    kind, bits = (weight.dtype, torch.int16) if half else (torch.float32, torch.int32)
    if not torch.equal(integer.weight().cpu().to(kind).view(bits), weight.to(kind).view(bits)):
        raise CompressionError(f"layer {integer.name}: its codes times its step are not the weight it computes with")
    codes: np.ndarray[Any, np.dtype[np.int32]] = integer.codes.cpu().contiguous().reshape(-1).numpy()
    return codes


def _write(path: Path, data: bytes) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise CompressionError(f"cannot write {path}: {error.strerror or error}") from error


def _guarded(path: str | Path, read: Callable[[bytes], T]) -> T:
    data = read_bytes(path, "cannot read", MOST_BYTES)
    try:
        return read(data)
    except (ValueError, zlib.error, CompressionError) as error:
        raise CompressionError(f"{path} is no sound packed file ({error}); pack the model again") from error


def _coded(header: Header, body: memoryview) -> Iterator[IntegerWeight]:
    coded = [row for row in header["tensors"] if is_coded(row)]
    counts = [scale_count(row) for row in coded]
    at, checksum = 4 * sum(counts), 0
    steps = np.frombuffer(body, dtype="<f4", count=sum(counts))
    for row, own in zip(coded, np.split(steps, np.cumsum(counts)[:-1]) if coded else (), strict=True):
        name, shape, coding, length, bits = row[:5]
        codes = decode(coding, bytes(body[at : at + length]), math.prod(shape))
        checksum = zlib.crc32(codes.astype("<i4", copy=False).data, checksum)
        layer = name.removesuffix("weight").removesuffix(".")
        step, offset = step_of(row, own)
        yield IntegerWeight(layer, torch.from_numpy(codes).reshape(shape), step, bits, offset)
        at += length
    if checksum != header["codes"]:
        raise ValueError("the decoded codes do not match their checksum")


def _tensors(header: Header, body: memoryview) -> Iterator[tuple[Row, torch.Tensor]]:
    coded = [row for row in header["tensors"] if is_coded(row)]
    at = 4 * sum(map(scale_count, coded)) + sum(row[3] for row in coded)
    weights = zip((row[0] for row in coded), _coded(header, body), strict=True)
    found = {name: weight.weight() for name, weight in weights}
    for row in header["tensors"]:
        if len(row) == 2:  # the same as an earlier one
            found[row[0]] = found[row[1]]
        elif len(row) == 3:
            found[row[0]], at = leftover(body, at, row)
        yield row, found[row[0]]
