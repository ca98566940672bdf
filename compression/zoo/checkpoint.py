"""A file of weights of an unknown network: the names and shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from compression import safeheader
from compression.errors import CompressionError
from compression.reading import cut
from compression.zoo import onnx_tensors, weights
from compression.zoo.architectures import numbers
from compression.zoo.content import ONNX, SAFETENSORS

MOST_TENSORS, MOST_NAME, MOST_LEVELS = 10_000, 500, 24
_PREFIXES = ("module.", "_orig_mod.")
_WHAT = "weights file"
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """``shapes``: parameter → shape, batch norm's counters omitted.

    ``whole``: the tensors are those of a module's state; else (ONNX) batch norms may be folded into their layers.
    ``external``: how many of the tensors have their values in another file.
    """

    kind: str
    shapes: Mapping[str, tuple[int, ...]]
    whole: bool = True
    external: int = 0

    @property
    def params(self) -> int:
        """Numbers in all its tensors."""
        return numbers(self.shapes)

    @property
    def modules(self) -> list[dict[str, Any]]:
        """Parameters of every module that holds some itself, in the order of the file, for a treemap."""
        result: dict[str, int] = {}
        for name, shape in self.shapes.items():
            module = name.rpartition(".")[0]
            result[module] = result.get(module, 0) + math.prod(shape)
        return [{"name": name or "(own)", "params": count, "macs": 0} for name, count in result.items()]


def read(path: Path, kind: str) -> Checkpoint:
    """The checkpoint in a file of a ``kind`` (see :mod:`.content`); nothing in it is executed.

    Raises:
        CompressionError: damaged, without tensors, or with more than any network has.
    """
    if kind == ONNX:
        onnx = onnx_tensors.read(path, _WHAT)
        return _checked(Checkpoint(kind, onnx.shapes, False, onnx.external))
    if kind == SAFETENSORS:
        return _checked(Checkpoint(kind, _plain(safeheader.shapes(path, _WHAT))))
    state = weights.read(path)
    return _checked(Checkpoint(kind, _plain({name: tuple(tensor.shape) for name, tensor in state.items()})))


def _plain(named: Mapping[str, T]) -> dict[str, T]:
    """Without batch norm's counters and the prefix of DataParallel or of a compiled model."""
    result: dict[str, T] = {}
    for name, value in named.items():
        if name.endswith(weights.COUNTERS):
            continue
        short = name
        for prefix in _PREFIXES:
            short = short.removeprefix(prefix)
        result[short if short not in result else name] = value
    return result


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    count = len(checkpoint.shapes)
    if not count:
        where = " (its weights may be constants of its nodes)" if checkpoint.kind == ONNX else ""
        raise CompressionError(f"this file holds no tensors{where}")
    if count > MOST_TENSORS:
        raise CompressionError(
            f"this file holds {count:,} tensors, more than the {MOST_TENSORS:,} that are read of one"
        )
    for name in checkpoint.shapes:
        if len(name) > MOST_NAME or name.count(".") > MOST_LEVELS:
            raise CompressionError(f"this file: {cut(name)} is longer than the names that are read of tensors")
    return checkpoint
