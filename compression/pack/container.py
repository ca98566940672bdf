"""``weights.packed``: magic, version, checksum, a deflated JSON header, then fp32 numbers, streams and raw tensors.

    8 bytes   b"CXPACK" and the version as uint16
    8 bytes   uint32 length of the header, uint32 CRC-32 of everything after these 16 bytes
    header    zlib of JSON {"codes": CRC-32 of all decoded integers, "tensors": [row, ...]} in the state dict's order,
              since version 4 with the preset dictionary ``WORDS`` of :mod:`.header`
    numbers   fp32, of each quantized weight; then these weights' streams; then the bytes of tensors stored as they are
    zeros     only behind huge constant weights, so that no small file may claim much memory (:mod:`.header`)

A row is an object with a name and a kind (:mod:`.rows`, :mod:`compression.encodings`); a weight's numbers and streams
lie in the order in which its row names them. Everything is little-endian. Version 4 is written; versions 1 to 3, whose
rows are lists (:mod:`compression.encodings.list_rows`), are laid out alike and are read for ever. A file whose prefixes
are models is another format: :mod:`.layered`.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from compression import encodings
from compression.counting.ledger import Ledger
from compression.encodings.base import Arrays, stream_size
from compression.errors import CompressionError
from compression.pack.account import account
from compression.pack.header import MAGIC, PREFIX, VERSION, Header, deflated, padding, parse
from compression.pack.rows import ALIAS, RAW, Row, is_weight, number_bytes, raw_bytes, raw_tensor, stream_bytes
from compression.pack.storable import named_tensors, raw_data, raw_row
from compression.pack.streams import decode, encode
from compression.quant.integers import QuantizedWeight, fold, integer_weights
from compression.reading import cut, read_bytes

T = TypeVar("T")
MOST_BYTES = 1 << 36


def pack(model: nn.Module, path: str | Path, integers: Mapping[str, QuantizedWeight] | None = None) -> Ledger:
    """Write a model's whole state: quantized weights as coded integers, the rest as it is.

    The file appears whole, or not at all. ``model`` may carry quantizers or be plain. A plain model's weights are
    coded where ``integers`` (layer name → its quantized weight) has them, else everything is stored as it is, which is
    what a baseline's bytes are.

    Raises:
        CompressionError: the file cannot be written, or the model holds something that is no tensor.
    """
    known = integer_weights(model) if integers is None else dict(integers)
    data = to_bytes(fold(model).state_dict(), known)
    write(Path(path), data)
    return ledger(path)


def unpack(path: str | Path) -> dict[str, torch.Tensor]:
    """The full state dict of the plain model, fp32 weights bit for bit as they were evaluated.

    Raises:
        CompressionError: the file cannot be read, is none of ours, is truncated or damaged.
    """
    return {row["name"]: tensor for row, tensor in rows(path)}


def rows(path: str | Path) -> list[tuple[Row, torch.Tensor]]:
    """Every row of the header with its tensor, in the order of the state dict.

    Raises:
        CompressionError: as :func:`unpack`.
    """
    return _guarded(path, lambda data: list(_tensors(*parse(data))))


def integers(path: str | Path) -> dict[str, QuantizedWeight]:
    """Layer name → its quantized weight as the file holds it; weights stored in floating point are left out.

    Raises:
        CompressionError: as :func:`unpack`.
    """
    weights = _guarded(path, lambda data: [_restored(*weight) for weight in _weights(*parse(data))])
    return {weight.name: weight for weight in weights}


def ledger(path: str | Path) -> Ledger:
    """Where the bytes of a packed file are, read from the file itself.

    Raises:
        CompressionError: as :func:`unpack`.
    """
    return _guarded(path, lambda data: account(data, *parse(data)))


def to_bytes(state: Mapping[str, Any], integers: Mapping[str, QuantizedWeight]) -> bytes:
    """The packed file of a plain state dict, some of whose weights are known as quantized (layer name → weight)."""
    quantized = {f"{name}.weight" if name else "weight": weight for name, weight in integers.items()}
    rows: list[Row] = []
    numbers, streams, raw = bytearray(), bytearray(), bytearray()
    checksum = 0
    for name, tensor, twin in named_tensors(state):
        if twin is not None:
            rows.append({"name": name, "kind": ALIAS, "target": twin})
        elif name in quantized:
            row, arrays, coded = _encoded(name, quantized[name], tensor)
            rows.append(row)
            checksum = _checksum(arrays, checksum)
            numbers += b"".join(array.astype("<f4", copy=False).tobytes() for array in arrays.numbers.values())
            streams += coded
        else:
            rows.append(raw_row(name, tensor))
            raw += raw_data(tensor)
    header = deflated({"codes": checksum, "tensors": rows})
    body = header + numbers + streams + raw
    body += bytes(padding(rows, PREFIX.size + len(body)))
    return PREFIX.pack(MAGIC, VERSION, len(header), zlib.crc32(body)) + body


def _encoded(name: str, weight: QuantizedWeight, tensor: torch.Tensor) -> tuple[Row, Arrays, bytes]:
    """The row, the arrays and the coded streams of a weight.

    Raises:
        CompressionError: what will be decoded is not ``tensor``, the weight that the layer computes with.
    """
    wrong = CompressionError(f"layer {weight.name}: its codes do not give the weight that it computes with")
    if weight.shape != tuple(tensor.shape):
        raise wrong
    encoding = encodings.get(weight.kind)
    arrays = encoding.arrays(weight)
    shape, counts = list(tensor.shape), {key: array.size for key, array in arrays.numbers.items()}
    row: Row = {"name": name, "kind": weight.kind, "shape": shape, "bits": weight.bits, **encoding.fields(weight)}
    row |= {"numbers": counts, "streams": {}}
    coded = b""
    for key, codes in arrays.streams.items():
        stream = encode(codes)
        row["streams"][key] = {"coding": stream.coding, "bytes": len(stream.data)}
        if codes.size != tensor.numel():
            row["streams"][key]["size"] = codes.size
        coded += stream.data
    encoding.check(row)
    if not _same(_decoded(row, arrays), tensor):
        raise wrong
    return row, arrays, coded


def _same(decoded: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit in fp32, or once rounded to the half precision of the weight."""
    half = weight.dtype in (torch.float16, torch.bfloat16)
    kind, bits = (weight.dtype, torch.int16) if half else (torch.float32, torch.int32)
    return torch.equal(decoded.to(kind).view(bits), weight.to(kind).contiguous().view(bits))


def _checksum(arrays: Arrays, before: int) -> int:
    for codes in arrays.streams.values():
        before = zlib.crc32(codes.astype("<i4", copy=False).data, before)
    return before


def _decoded(row: Row, arrays: Arrays) -> torch.Tensor:
    """The weight of a row, by its kind's decode function."""
    with np.errstate(all="ignore"):
        values = np.asarray(encodings.get(row["kind"]).decode(row, **arrays.streams, **arrays.numbers), np.float32)
    if values.shape != tuple(row["shape"]):
        raise ValueError(f"{cut(row['name'])} is decoded to another shape than its row has")
    return torch.from_numpy(values)


def write(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        CompressionError: it cannot be written.
    """
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


def _weights(header: Header, body: memoryview) -> Iterator[tuple[Row, Arrays]]:
    """The row of each quantized weight with its arrays; whoever takes all of them knows that the checksum is right.

    Raises:
        ValueError: a stream is damaged.
    """
    weights = [row for row in header["tensors"] if is_weight(row)]
    number, at, checksum = 0, sum(number_bytes(row) for row in weights), 0
    for row in weights:
        arrays = Arrays({}, {})
        for name, count in row["numbers"].items():
            arrays.numbers[name] = np.frombuffer(body, dtype="<f4", count=count, offset=number)
            number += 4 * count
        for name, stream in row["streams"].items():
            data = bytes(body[at : at + stream["bytes"]])
            arrays.streams[name] = decode(stream["coding"], data, stream_size(row, name))
            at += stream["bytes"]
        checksum = _checksum(arrays, checksum)
        encodings.get(row["kind"]).verify(row, arrays)
        yield row, arrays
    if checksum != header["codes"]:
        raise ValueError("the decoded codes do not match their checksum")


def _restored(row: Row, arrays: Arrays) -> QuantizedWeight:
    layer = row["name"].removesuffix("weight").removesuffix(".")
    weight: QuantizedWeight = encodings.get(row["kind"]).restore(layer, row, arrays)
    return weight


def _tensors(header: Header, body: memoryview) -> Iterator[tuple[Row, torch.Tensor]]:
    weights = [row for row in header["tensors"] if is_weight(row)]
    at = sum(number_bytes(row) + stream_bytes(row) for row in weights)
    tensors = {row["name"]: _decoded(row, arrays) for row, arrays in _weights(header, body)}
    for row in header["tensors"]:
        if row["kind"] == ALIAS:
            tensors[row["name"]] = tensors[row["target"]]
        elif row["kind"] == RAW:
            end = at + raw_bytes(row)
            tensors[row["name"]], at = raw_tensor(body[at:end], row), end
        yield row, tensors[row["name"]]
