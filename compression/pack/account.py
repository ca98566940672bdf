"""Where the bytes of a packed file went."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from compression.graph.names import is_quantizer_name
from compression.pack.header import Header
from compression.pack.rows import is_coded, leftover_size, scale_count
from compression.pack.streams import split


@dataclass(frozen=True)
class Ledger:
    """Where the bytes of a packed file went; the first five sum to ``total``, the size of the file.

    ``values`` and ``positions``: the integer codes, and where their zeros are (divided by
    :func:`compression.pack.streams.split`); ``scales``: steps and offsets of weights, and quantizers of activations;
    ``leftovers``: everything kept as it was (biases, norms, buffers, weights without a quantizer); ``container``:
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


def account(data: bytes, header: Header, body: memoryview) -> Ledger:
    """The ledger of a file, from its bytes, its header and what stands behind that.

    Raises:
        ValueError: a stream is damaged.
    """
    rows = header["tensors"]
    coded = [row for row in rows if is_coded(row)]
    values = positions = leftovers = 0
    scale_bytes = at = 4 * sum(map(scale_count, coded))
    for _, shape, coding, length, *_ in coded:
        told, where = split(coding, bytes(body[at : at + length]), math.prod(shape))
        values, positions, at = values + told, positions + where, at + length
    for row in (row for row in rows if len(row) == 3):
        size = leftover_size(row)
        if is_quantizer_name(row[0]):
            scale_bytes += size
        else:
            leftovers += size
    total = len(data)
    container = total - values - positions - scale_bytes - leftovers
    return Ledger(values, positions, scale_bytes, leftovers, container, total)
