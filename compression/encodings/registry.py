"""The encodings by kind: those of this folder, and those that others register."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from compression.counting.sizes import Dropped, WeightSize
from compression.encodings.base import Encoding
from compression.errors import CompressionError
from compression.graph import Graph
from compression.graph.cuts import cuts
from compression.quant.integers import QuantizedWeight
from compression.reading import short

_registered: dict[str, Encoding[Any]] = {}


def register(encoding: Encoding[Any]) -> None:
    """Make a kind known that is no module of this folder; one of the same kind is replaced."""
    _registered[encoding.kind] = encoding


@cache
def _shipped() -> dict[str, Encoding[Any]]:
    package = importlib.import_module(str(__package__))
    modules = (importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__))
    encodings = [module.ENCODING for module in modules if hasattr(module, "ENCODING")]
    return {encoding.kind: encoding for encoding in encodings}


def all_encodings() -> dict[str, Encoding[Any]]:
    """Every encoding by kind: the ``ENCODING`` of each module in this folder, and those registered."""
    return {**_shipped(), **_registered}


def get(kind: str) -> Encoding[Any]:
    """The encoding of this kind.

    Raises:
        CompressionError: there is none; the message lists those there are.
    """
    known = all_encodings()
    if kind not in known:
        raise CompressionError(f"no encoding of weights is called {short(kind)}; known: {', '.join(known)}")
    return known[kind]


def size_of(weight: QuantizedWeight, dropped: Dropped = ()) -> WeightSize:
    """What a weight takes without these positions, as its encoding estimates it."""
    return get(weight.kind).size(weight, dropped)


def cut_weights(
    weights: Mapping[str, QuantizedWeight], graph: Graph, units: Mapping[str, Sequence[int]]
) -> dict[str, QuantizedWeight]:
    """Layer → its weight without the removed units (group id → units), as its encoding cuts it."""
    dropped, tensors = cuts(graph, units), {layer.name: layer.weight for layer in graph.layers}
    return {
        name: get(weight.kind).cut(weight, dropped.get(tensors.get(name, f"{name}.weight"), ()))
        for name, weight in weights.items()
    }
