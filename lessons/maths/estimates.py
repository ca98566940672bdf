"""The size of the same codes by several ways of counting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compression.counting.entropy import entropy_bits
from compression.pack.streams import Codes, encode

FLOAT_BITS = 32


@dataclass(frozen=True)
class Sizes:
    """Bits for all codes of a layer, by way of counting.

    ``floats``: 32 bits each, zeros too; ``values``: b bits for each code not zero, positions forgotten; ``fixed``: b
    bits for every code, zeros too; ``bitmap``: values and one bit a weight for where they are; ``entropy``: the least
    that a code of single symbols can need; ``coded``: the stream of the packed file, table included.
    """

    floats: float
    values: float
    fixed: float
    bitmap: float
    entropy: float
    coded: float


def sizes(codes: Codes, bits: int) -> Sizes:
    """Count int32 codes [n] of a ``bits``-bit quantizer in every way."""
    n, alive = codes.size, int(np.count_nonzero(codes))
    counts = np.bincount(codes - codes.min()) if n else np.zeros(0, dtype=np.int64)
    return Sizes(
        floats=FLOAT_BITS * n,
        values=bits * alive,
        fixed=bits * n,
        bitmap=bits * alive + n,
        entropy=entropy_bits(counts),
        coded=8 * len(encode(codes).data),
    )


def bitmap_pays_from(bits: int) -> float:
    """The share of zeros from which a bitmap and the values take less than all codes at fixed length: 1 / b."""
    return 1.0 / bits
