"""The ledger: where the bytes of a packed file are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple


class WeightBytes(NamedTuple):
    """Bytes of one quantized weight: its integer codes, the positions of its zeros, its fp32 numbers."""

    values: int
    positions: int
    scales: int


@dataclass(frozen=True)
class Ledger:
    """Where the bytes of a packed file are; the first five sum to ``total``, the size of the file.

    ``values`` and ``positions``: the integer codes, and where their zeros are, as each weight's encoding divides them;
    ``scales``: fp32 numbers of quantized weights (steps, offsets, tables), and quantizers of activations;
    ``leftovers``: everything stored as it is (biases, norms, buffers, weights without a quantizer); ``container``:
    magic, checksum, names, shapes.
    """

    values: int
    positions: int
    scales: int
    leftovers: int
    container: int
    total: int

    def to_dict(self) -> dict[str, int]:
        """Plain JSON values."""
        return dataclasses.asdict(self)
