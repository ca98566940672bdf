"""Bit planes of integer codes, the highest first: each coded under what the planes before it say of its weight.

A plane holds one bit of every magnitude. Its context is the prefix of that magnitude: 0, 1 or larger, each with counts
of its own; where a magnitude becomes non-zero its sign follows at once, as a third symbol. By the chain rule all planes
together cost what the codes do, up to their tables, and to prefixes above 1 having one table (planes of a Laplace
density differ by nothing there).

A coded plane: for each context that occurs, the counts of its symbols but the first as variable-length integers; then
one ANS stream of the symbols of context 0, 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import constriction
import numpy as np
from numpy.typing import NDArray

from compression.counting.entropy import entropy_bits
from compression.pack.streams import Codes, Counts, model, read_varints, varints

SYMBOLS = (3, 2, 2)
"""Of each context: prefix 0 (stays 0, becomes positive, becomes negative), prefix 1, a larger one (the bit)."""
Symbols = NDArray[np.int32]


def encode(codes: Codes, count: int) -> list[bytes]:
    """The ``count`` planes of codes (int32 [n], abs(code) < 2^count), the highest first."""
    planes = []
    for place in reversed(range(count)):
        magnitude = np.abs(codes) >> place
        bits = magnitude & 1
        opened = (magnitude == 1) & (codes < 0)
        planes.append(_encode(magnitude >> 1, (bits + opened).astype(np.int32)))
    return planes


def _encode(prefix: Codes, symbols: Symbols) -> bytes:
    contexts = [symbols[place] for place in _places(prefix)]
    tables = [np.bincount(own, minlength=size) for own, size in zip(contexts, SYMBOLS, strict=True)]
    head = varints(count for table in tables if table.sum() for count in table[1:].tolist())
    coder = constriction.stream.stack.AnsCoder()
    for own, table in reversed(list(zip(contexts, tables, strict=True))):
        if _varies(table):
            coder.encode_reverse(own, model(table))
    return head + coder.get_compressed().astype("<u4").tobytes()


def decode(codes: Codes, data: bytes) -> Codes:
    """The codes (int32 [n]) with one bit more, from those of the planes before it and the coded plane.

    Raises:
        ValueError: the bytes are no such plane.
    """
    places, longer = _places(np.abs(codes)), 2 * codes
    tables, start = _tables(data, [len(place) for place in places])
    if (len(data) - start) % 4:
        raise ValueError("a plane is no whole number of words")
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, dtype="<u4", offset=start).astype(np.uint32))
    for place, table in zip(places, tables, strict=True):
        if _varies(table):
            symbols = coder.decode(model(table), len(place))
        else:
            symbols = np.full(len(place), int(table.argmax()), dtype=np.int32)
        own = codes[place]
        # 1 and 2 open a magnitude with its sign; later bits lengthen it.
        longer[place] += np.where(own == 0, symbols - 3 * (symbols == 2), symbols * np.sign(own)).astype(np.int32)
    return longer


def split(prefix: Codes, data: bytes) -> tuple[int, int]:
    """How many bytes of a plane are spent on values, signs included, and how many on which magnitudes are opened.

    Divided as its entropy is: what context 0 spends on zero or not is positions, the rest values.
    """
    tables, _ = _tables(data, [len(place) for place in _places(np.abs(prefix))])
    whole = sum(entropy_bits(table) for table in tables if table.any())
    zeros = entropy_bits(np.array([tables[0][0], tables[0][1:].sum()])) if tables[0].any() else 0.0
    positions = round(len(data) * zeros / whole) if whole else 0
    return len(data) - positions, positions


def _places(prefix: Codes) -> list[NDArray[np.int64]]:
    """Where the prefixes 0, 1 and larger are."""
    return [np.flatnonzero(prefix == 0), np.flatnonzero(prefix == 1), np.flatnonzero(prefix > 1)]


def _varies(table: Counts) -> bool:
    return int(np.count_nonzero(table)) > 1


def _tables(data: bytes, sizes: list[int]) -> tuple[list[Counts], int]:
    """The symbol counts of each context of these sizes, and where the words begin.

    Raises:
        ValueError: the counts are those of other sizes.
    """
    present = [symbols - 1 for symbols, size in zip(SYMBOLS, sizes, strict=True) if size]
    counts, start = read_varints(data, 0, sum(present))
    tables = list(_divided(iter(counts), sizes))
    if any(table[0] < 0 for table in tables):
        raise ValueError("the symbol counts of a plane do not add up to its layer's size")
    return tables, start


def _divided(counts: Iterator[int], sizes: list[int]) -> Iterator[Counts]:
    for symbols, size in zip(SYMBOLS, sizes, strict=True):
        others = [next(counts) for _ in range(symbols - 1)] if size else [0] * (symbols - 1)
        yield np.array([max(-1, size - sum(others)), *others], dtype=np.int64)
