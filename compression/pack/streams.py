"""One layer's integer codes as bytes, in whichever of three lossless codings is the smallest.

``ans``     asymmetric numeral systems under the layer's own symbol counts, which stand before the coded words
``fixed``   every code in the same number of bits
``bitmap``  one bit a weight for zero or not, then every non-zero code in the same number of bits

Each stream begins with the lowest code and the width of the range, as variable-length integers. Little-endian.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import constriction
import numpy as np
from numpy.typing import NDArray

from compression.counting.entropy import entropy_bits

Codes = NDArray[np.int32]
Counts = NDArray[np.int64]
CODINGS = ("ans", "fixed", "bitmap")
CHUNK = 1 << 20  # codes handled at once in bit packing; a multiple of 8, so that chunks end on whole bytes
MOST_SYMBOLS = 1 << 16
MOST_SHIFT = 63


@dataclass(frozen=True)
class Stream:
    """Coded bytes, and which of :data:`CODINGS` they are in."""

    coding: str
    data: bytes


def encode(codes: Codes) -> Stream:
    """The shortest stream of these codes (int32 [n])."""
    if not codes.size:
        return Stream("fixed", b"")
    low, high = int(codes.min()), int(codes.max())
    head = varints([_zigzag(low), high - low])
    nonzero = int(np.count_nonzero(codes))
    sizes = {"fixed": _packed_size(codes.size, _width(high - low))}
    if low <= 0 <= high and low < high:
        sizes["bitmap"] = _packed_size(codes.size, 1) + _packed_size(nonzero, _width(high - low - 1))
    coded = _ans(codes, low, high) if low < high and high - low < min(MOST_SYMBOLS, 4 * codes.size) else None
    if coded is not None:
        sizes["ans"] = len(coded)
    coding = min(sizes, key=sizes.__getitem__)
    if coding == "ans" and coded is not None:
        return Stream(coding, head + coded)
    if coding == "bitmap":
        values = codes[codes != 0]
        body = _pack(codes != 0, 1) + _pack(values - low - (values > 0), _width(high - low - 1))
        return Stream(coding, head + body)
    return Stream("fixed", head + _pack(codes - np.int32(low), _width(high - low)))


def decode(coding: str, data: bytes, size: int) -> Codes:
    """The codes (int32 [size]) of a stream.

    Raises:
        ValueError: the bytes are not such a stream.
    """
    if size == 0:
        return np.zeros(0, dtype=np.int32)
    low, span, start = _range(data)
    if coding == "fixed":
        codes = _unpack(data[start:], size, _width(span))
        codes += np.int32(low)
        return codes
    if coding == "bitmap":
        mask = _unpack(data[start:], size, 1).astype(bool)
        values = _unpack(data[start + _packed_size(size, 1) :], int(mask.sum()), _width(span - 1)) + np.int32(low)
        codes = np.zeros(size, dtype=np.int32)
        codes[mask] = values + (values >= 0)
        return codes
    if coding == "ans":
        counts, start = _counts(data, start, span, size)
        words = np.frombuffer(data, dtype="<u4", offset=start).astype(np.uint32)
        decoded: Codes = constriction.stream.stack.AnsCoder(words).decode(model(counts), size)
        return decoded + np.int32(low)
    raise ValueError(f"unknown coding {coding!r}")


def split(coding: str, data: bytes, size: int) -> tuple[int, int]:
    """How many bytes of a stream are spent on values and how many on positions; they sum to the stream's length.

    The bitmap is positions, what follows it values. Fixed length spends nothing on positions of its own. An ``ans``
    stream (table included) is divided as its entropy is: H(code) = H(zero or not) + P(not zero) H(code | not zero); the
    first term's share of the bytes, rounded, is positions.
    """
    if coding == "bitmap":
        positions = _packed_size(size, 1)
    elif coding == "ans":
        low, span, start = _range(data)
        counts, _ = _counts(data, start, span, size)
        zeros = int(counts[-low]) if 0 <= -low <= span else 0
        whole = entropy_bits(counts)
        positions = round(len(data) * entropy_bits(np.array([zeros, size - zeros])) / whole) if whole else 0
    else:
        positions = 0
    return len(data) - positions, positions


def model(counts: Counts) -> constriction.stream.model.Categorical:
    """What ANS codes symbols with these counts under."""
    return constriction.stream.model.Categorical(counts.astype(np.float64) / counts.sum(), perfect=False)


def _ans(codes: Codes, low: int, high: int) -> bytes:
    symbols = codes - np.int32(low)
    counts = np.bincount(symbols, minlength=high - low + 1)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(symbols, model(counts))
    return varints(counts.tolist()) + coder.get_compressed().astype("<u4").tobytes()


def _width(span: int) -> int:
    """Bits that the integers 0..span need."""
    return max(span, 0).bit_length()


def _packed_size(count: int, width: int) -> int:
    return -(-count * width // 8)


def _pack(values: NDArray[np.integer] | NDArray[np.bool_], width: int) -> bytes:
    """Unsigned integers below 2^width, each in ``width`` bits, highest bit first."""
    parts = []
    for start in range(0, len(values) if width else 0, CHUNK):
        part = values[start : start + CHUNK].astype(">u4")
        bits = np.unpackbits(part.view(np.uint8).reshape(-1, 4), axis=1)[:, 32 - width :]
        parts.append(np.packbits(bits.ravel()).tobytes())
    return b"".join(parts)


def _unpack(data: bytes, count: int, width: int) -> Codes:
    values = np.zeros(count, dtype=np.int32)
    if len(data) < _packed_size(count, width):
        raise ValueError("a stream is shorter than its codes need")
    raw = np.frombuffer(data, dtype=np.uint8)
    for start in range(0, count if width else 0, CHUNK):
        amount = min(CHUNK, count - start)
        first = start * width // 8
        bits = np.unpackbits(raw[first : first + _packed_size(amount, width)], count=amount * width)
        wide = np.zeros((amount, 32), dtype=np.uint8)
        wide[:, 32 - width :] = bits.reshape(amount, width)
        values[start : start + amount] = np.packbits(wide, axis=1).view(">u4").ravel().astype(np.int32)
    return values


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def varints(values: Iterable[int]) -> bytes:
    """Non-negative integers, seven bits a byte, the lowest first; the top bit says that more follows."""
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


def _range(data: bytes) -> tuple[int, int, int]:
    """The lowest code, the width of the range, and where what follows them begins.

    Raises:
        ValueError: the codes would not be 32-bit integers.
    """
    (zigzag, span), start = read_varints(data, 0, 2)
    low = (zigzag >> 1) ^ -(zigzag & 1)
    if low < -(1 << 31) or low + span >= 1 << 31:
        raise ValueError("a stream holds codes of more than 32 bits")
    return low, span, start


def _counts(data: bytes, start: int, span: int, size: int) -> tuple[Counts, int]:
    """The symbol counts of an ``ans`` stream, and where its words begin.

    Raises:
        ValueError: they are none of ``size`` codes.
    """
    if not 0 < span < MOST_SYMBOLS:
        raise ValueError(f"a table has {span + 1} symbols")
    counts, start = read_varints(data, start, span + 1)
    if sum(counts) != size or max(counts) == size:
        raise ValueError("symbol counts do not add up to the layer's size")
    return np.array(counts, dtype=np.int64), start


def read_varints(data: bytes, start: int, count: int) -> tuple[list[int], int]:
    """So many integers that :func:`varints` wrote, and where what follows them begins.

    Raises:
        ValueError: the bytes end before, or hold too large a number.
    """
    values = []
    for _ in range(count):
        value, shift = 0, 0
        while True:
            if start >= len(data):
                raise ValueError("a stream ends within its table")
            byte = data[start]
            start += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= MOST_SHIFT:
                raise ValueError("a stream holds a number of more than 63 bits")
        values.append(value)
    return values, start
