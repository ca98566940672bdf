"""The ledger: where the bytes of a packed file are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple


class WeightBytes(NamedTuple):
    """Bytes of one quantized weight: its integer codes, the positions of its zeros, its fp32 numbers, its codebook."""

    values: int
    positions: int
    scales: int
    codebooks: int = 0


@dataclass(frozen=True)
class Ledger:
    """Where the bytes of a packed file are; the others sum to ``total``, the size of the file.

    ``values`` and ``positions``: the integer codes, and where their zeros are, as each weight's encoding divides them;
    ``scales``: fp32 numbers of quantized weights (steps, offsets, tables), and quantizers of activations;
    ``leftovers``: everything stored as it is (biases, norms, buffers, weights without a quantizer); ``container``:
    magic, checksum, names, shapes; ``codebooks``: blocks of weights that indices among the values refer to.
    """

    values: int
    positions: int
    scales: int
    leftovers: int
    container: int
    total: int
    codebooks: int = 0

    def to_dict(self) -> dict[str, int]:
        """Plain JSON values; without ``codebooks`` where there are none."""
        plain = dataclasses.asdict(self)
        return {name: count for name, count in plain.items() if name != "codebooks" or count}
