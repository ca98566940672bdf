"""Fingerprints of the architectures of torchvision and timm, so that a file of weights is recognised without building
them all (which takes minutes).

``architectures.json`` holds them; ``python -m compression.zoo.architectures`` writes it anew to standard output, for
the versions that are installed. A stale entry does no harm: who recognises by it builds the network and compares.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from compression import zoo
from compression.errors import CompressionError

FILE = Path(__file__).with_name("architectures.json")
Shapes = Mapping[str, tuple[int, ...]]
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Entry:
    """One architecture at its own size.

    ``full`` and ``matrices`` are digests of names and shapes, of all tensors and of those with at least two dimensions
    (see :func:`digest`); ``head`` names the tensors whose first length is the number of classes; ``params`` counts
    them all; ``patterns`` are checksums of the names without their numbers.
    """

    name: str
    full: str
    matrices: str
    params: int
    head: tuple[str, ...]
    patterns: frozenset[int]


def digest(shapes: Shapes, head: Iterable[str]) -> str:
    """12 hexadecimal digits of the names and shapes; of the ``head`` the first length does not count."""
    without_classes = frozenset(head)
    lines = (
        f"{name} {('*', *shape[1:]) if name in without_classes else shape}" for name, shape in sorted(shapes.items())
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def matrices(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The tensors with at least two dimensions: what folding a batch norm into its convolution does not change."""
    return {name: shape for name, shape in shapes.items() if len(shape) > 1}


def numbers(shapes: Shapes) -> int:
    """How many numbers the tensors hold together."""
    return sum(map(math.prod, shapes.values()))


def patterns(names: Iterable[str]) -> frozenset[int]:
    """CRC-32 of each name with its numbers replaced: networks of one family have most of them in common."""
    return frozenset(zlib.crc32(_NUMBER.sub("#", name).encode()) for name in names)


def entry(name: str, shapes: Shapes, classes: int) -> Entry:
    """The fingerprints of an architecture from the names and shapes of its state at ``classes``."""
    head = tuple(name for name, shape in shapes.items() if shape and shape[0] == classes)
    return Entry(name, digest(shapes, head), digest(matrices(shapes), head), numbers(shapes), head, patterns(shapes))


@lru_cache(maxsize=64)
def shapes_of(name: str, input: tuple[int, ...] | None = None, classes: int | None = None) -> Shapes:
    """Name → shape of the state of a model, built without values; batch norm's counters are omitted.

    Raises:
        CompressionError: it cannot be built at this size.
    """
    from compression.zoo.weights import COUNTERS

    state = zoo.build(name, input, classes, empty=True).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith(COUNTERS)}


@cache
def known() -> tuple[Entry, ...]:
    """The architectures of the file, torchvision's first."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    families = [frozenset(family) for family in stored["families"]]
    return tuple(
        Entry(name, full, matrices, params, tuple(head), families[family])
        for name, (full, matrices, params, head, family) in stored["models"].items()
    )


def write(entries: Iterable[Entry]) -> str:
    """The text of the file."""
    families: dict[frozenset[int], int] = {}
    lines = []
    for each in entries:
        family = families.setdefault(each.patterns, len(families))
        fields = [each.full, each.matrices, each.params, list(each.head), family]
        lines.append(f"{json.dumps(each.name)}: {json.dumps(fields, separators=(',', ':'))}")
    rows = ",\n".join(json.dumps(sorted(family), separators=(",", ":")) for family in families)
    return '{"families": [\n' + rows + '\n],\n"models": {\n' + ",\n".join(lines) + "\n}}\n"


def names() -> list[str]:
    """What can be fingerprinted here: torchvision's architectures, and timm's where it is installed."""
    from torchvision import models

    from compression.zoo import extra
    from compression.zoo.imported import DETECTORS

    listed = [*models.list_models(module=models), *models.list_models(module=models.segmentation), *DETECTORS]
    return [f"torchvision:{name}" for name in listed] + [name for name in extra.titles() if name.startswith("timm:")]


def main() -> None:
    """Fingerprint everything that can be built without values, and say what cannot."""
    entries = []
    for name in names():
        try:
            entries.append(entry(name, shapes_of(name), zoo.spec(name).classes))
        except CompressionError as error:
            print(error, file=sys.stderr)
    sys.stdout.write(write(entries))


if __name__ == "__main__":
    main()
