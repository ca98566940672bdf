"""What a packed file holds, tensor by tensor: shape, bit-width, how many values are not zero, and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from compression.pack.container import rows
from compression.pack.rows import RAW, Row, is_weight, raw_bytes, stream_bytes


@dataclass(frozen=True)
class Stored:
    """One tensor of the file. ``bits`` is ``None`` for what is stored as it is; ``alive`` counts values not zero.

    ``bytes`` are those of its codes or raw values; its fp32 numbers (4 bytes each) and its row in the header are
    counted in the ledger under scales and container. A tensor that is the same as an earlier one takes none.
    """

    name: str
    shape: tuple[int, ...]
    bits: int | None
    bytes: int
    alive: int


def contents(path: str | Path) -> dict[str, Stored]:
    """The tensors of a packed file by name, in the order of the state dict.

    Raises:
        CompressionError: the file cannot be read, is none of ours, is truncated or damaged.
    """
    return {row["name"]: _stored(row, tensor) for row, tensor in rows(path)}


def _stored(row: Row, tensor: torch.Tensor) -> Stored:
    """What a row (see :mod:`.rows`) says about its tensor."""
    shape, alive = tuple(tensor.shape), int(torch.count_nonzero(tensor))
    if is_weight(row):
        return Stored(row["name"], shape, int(row["bits"]), stream_bytes(row), alive)
    return Stored(row["name"], shape, None, raw_bytes(row) if row["kind"] == RAW else 0, alive)
