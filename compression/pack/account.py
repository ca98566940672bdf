"""The ledger of a packed file, read from the file; each weight's encoding says what its bytes are for."""

from __future__ import annotations

from compression import encodings
from compression.counting.ledger import Ledger, WeightBytes
from compression.encodings.base import stream_size
from compression.graph.names import is_quantizer_name
from compression.pack.header import Header
from compression.pack.rows import RAW, Row, is_weight, number_bytes, raw_bytes
from compression.pack.streams import split


def account(data: bytes, header: Header, body: memoryview) -> Ledger:
    """The ledger of a file, from its bytes, its header and what stands behind that.

    Raises:
        ValueError: a stream is damaged.
    """
    weights = [row for row in header["tensors"] if is_weight(row)]
    raw = [row for row in header["tensors"] if row["kind"] == RAW]
    values = positions = leftovers = scales = codebooks = 0
    at = sum(number_bytes(row) for row in weights)
    for row in weights:
        part, at = _weight(row, body, at)
        values, positions, scales = values + part.values, positions + part.positions, scales + part.scales
        codebooks += part.codebooks
    for row in raw:
        if is_quantizer_name(row["name"]):
            scales += raw_bytes(row)
        else:
            leftovers += raw_bytes(row)
    container = len(data) - values - positions - scales - leftovers - codebooks
    return Ledger(values, positions, scales, leftovers, container, len(data), codebooks)


def _weight(row: Row, body: memoryview, at: int) -> tuple[WeightBytes, int]:
    """The bytes of a weight whose streams begin at ``at``, and where they end."""
    streams = {}
    for name, stream in row["streams"].items():
        end = at + stream["bytes"]
        streams[name] = split(stream["coding"], bytes(body[at:end]), stream_size(row, name))
        at = end
    return encodings.get(row["kind"]).account(row, streams), at
