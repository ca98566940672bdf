"""Layered files and the tables beside them, malformed: mostly with right checksums, so that what is behind is read."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from compression.pack.header import PREFIX, WORDS
from compression.tasks import ACCURACY
from tests.fuzz.mutate import byte_mutant, text_mutant
from tests.fuzz.target import Target

TABLE: dict[str, Any] = {
    "version": 1, "run": "run", "source": "trained weights", "statistics": "each", "metric": ACCURACY.to_dict(),
    "bytes": 200, "packed_bytes": 190, "packed_sha256": "0" * 64,
    "prefixes": [
        {
            "bytes": 100, "bits": 1.5, "error": 0.5, "score": 0.9, "loss": None, "planes": {"conv1": 3},
            "ledger": {"values": 50, "total": 100},
        }
    ],
}  # fmt: skip


@cache
def layered_file() -> bytes:
    """Weights of each grid, statistics, and tensors of other kinds."""
    from compression.pack import planes
    from compression.pack.layered_header import STATISTICS, Part
    from compression.pack.layering import differences, in_order, to_bytes
    from compression.quant.integers import IntegerWeight
    from compression.quant.nested import nested, of_codes

    torch.manual_seed(0)
    codes = torch.randint(-7, 8, (6, 5), dtype=torch.int32)
    given = [IntegerWeight("a", codes, 0.5, 4), IntegerWeight("b", codes, torch.rand(6, 1) + 0.1, 4, 0.25)]
    raw = torch.randn(8, 3, 2, 2)
    weights, targets = [*map(of_codes, given), nested("c", raw, 5)], [*(weight.weight() for weight in given), raw]
    coded = [planes.encode(weight.codes.reshape(-1).numpy(), weight.planes) for weight in weights]
    order = in_order(coded, [weight.errors(target) for weight, target in zip(weights, targets, strict=True)])
    state = {f"{weight.name}.weight": target for weight, target in zip(weights, targets, strict=True)}
    state |= {"n.running_var": torch.rand(4), "n.count": torch.tensor(1), "half": torch.randn(3).half()}
    moved = {**state, "n.running_var": torch.rand(4)}
    statistics = Part(STATISTICS, differences(state, moved, ["n.running_var"]))
    return to_bytes(state, weights, [*order[:5], statistics, *order[5:]], ["n.running_var"])


def _mutant(random: Random) -> bytes:
    data = layered_file()
    _, version, length, _ = PREFIX.unpack_from(data)
    header, rest = data[PREFIX.size : PREFIX.size + length], data[PREFIX.size + length :]
    about = json.loads(zlib.decompressobj(zdict=WORDS).decompress(header))
    kind = random.randrange(8)
    if kind == 0:
        return byte_mutant(random, data)
    if kind == 1:
        return data[: random.randrange(len(data))]
    if kind < 6:
        header = zlib.compress(text_mutant(random, about), 1)
    else:
        rest = byte_mutant(random, rest)
    return PREFIX.pack(b"CXLAYR", version, len(header), zlib.crc32(header + rest[: about["base"]])) + header + rest


def layered(data: bytes, folder: Path) -> None:
    """All that is read of a layered file."""
    from compression.pack import layered as files

    path = folder / "weights.layered"
    path.write_bytes(data)
    state = files.read(path)
    assert files.ledger(path).total == len(data)
    for cut in files.cuts(path):
        if cut.bytes <= len(data):
            assert list(files.read(path, cut.bytes)) == list(state)
    for weight in files.integers(path).values():
        assert weight.weight().shape == weight.codes.shape


def table(data: bytes, folder: Path) -> None:
    """A table of prefixes as pages show it."""
    from compression.export.layered_table import described, read
    from compression.reading import json_object

    value = read(json_object(data, "layered table"))
    assert len(value.rows) == len(value.prefixes)
    described(value.to_dict())
    assert read(value.to_dict()) == value


LAYERED = [
    Target("layered", _mutant, layered),
    Target("layered table", lambda random: text_mutant(random, TABLE), table),
]
