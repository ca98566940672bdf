"""What a model's present state would cost in the middle of its compression: zero units cut, codes entropy-coded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from compression.counting.cost import FULL_BITS, cost
from compression.graph import Graph, parameter_map, zeroed_units
from compression.graph.cuts import cuts, without

W = TypeVar("W")
Dropped = Sequence[tuple[int, torch.Tensor]]
"""(dimension, positions removed from it), each dimension once."""
BitWidths = Mapping[str, Mapping[str, float | None]]


class WeightSize(NamedTuple):
    """One quantized weight.

    ``coded``: bytes of its entropy-coded integers; ``integers``: how many those are, of the weight's bit-width (indices
    into a book count as so many as take their bits); ``numbers``: its fp32 numbers; ``elements`` of the weight, and
    those that are ``nonzero``.
    """

    coded: float
    integers: int
    numbers: int
    elements: int
    nonzero: int


def sizes(
    model: nn.Module,
    graph: Graph,
    bits: BitWidths,
    weights: Mapping[str, W],
    size: Callable[[W, Dropped], WeightSize],
) -> dict[str, Any]:
    """The size fields of a point.

    Args:
        model: the masked model.
        graph: of the dense network.
        bits: layer → its ``weight`` and ``activation`` bit-width, ``None`` or absent in fp32.
        weights: layer → its quantized weight; those of no convolution or linear layer, as tables of embeddings, count
            in bytes alone.
        size: counts one of them without the positions that its removed units held (the encodings' part).
    """
    removed = zeroed_units(model, graph)
    dropped = cuts(graph, removed)
    layers = {layer.name: layer for layer in graph.layers}
    stored = {name: size(weights[name], dropped.get(layers[name].weight, ())) for name in layers if name in weights}
    tables = {
        name: size(weight, dropped.get(f"{name}.weight", ())) for name, weight in weights.items() if name not in layers
    }
    counted = cost(graph, removed, {name: (b.get("weight"), b.get("activation")) for name, b in bits.items()})
    nominal = counted.nominal_bytes - sum(_saved(table, bits[name]["weight"]) for name, table in tables.items())
    total = sum(math.prod(layer.shape) for layer in graph.origin.layers)
    nonzero = sum(weight.nonzero for weight in stored.values()) + _float_nonzero(model, graph, stored, dropped)
    stored |= tables
    quantized = sum(weight.elements for weight in stored.values())
    floats = counted.params - quantized + sum(w.numbers for w in stored.values()) + _float_buffers(graph, removed)
    return {
        "bytes": sum(weight.coded for weight in stored.values()) + 4 * floats,
        "bytes_kind": "estimated",
        "nominal_bytes": nominal + nominal_extra(stored, bits),
        "macs": counted.macs,
        "bops": counted.bops,
        "rel_bops": counted.rel_bops,
        "unit_sparsity": counted.unit_sparsity,
        "weight_sparsity": 1 - nonzero / total if total else 0.0,
        "bits": bits,
    }


def nominal_extra(weights: Mapping[str, WeightSize], bits: BitWidths) -> float:
    """Nominal bytes that :func:`.cost.cost` leaves out: it counts one code an element and one fp32 number a layer."""
    return sum(
        4.0 * (weight.numbers - 1) + (weight.integers - weight.elements) * round(bits[name]["weight"] or 0) / 8
        for name, weight in weights.items()
    )


def _saved(weight: WeightSize, bits: float | None) -> float:
    """Nominal bytes that a table which :func:`.cost.cost` counts in fp32 saves by codes of ``bits`` and one step."""
    return weight.elements * (FULL_BITS - round(bits or FULL_BITS)) / 8 - 4


def _float_nonzero(
    model: nn.Module, graph: Graph, stored: Mapping[str, WeightSize], dropped: Mapping[str, Dropped]
) -> int:
    """How many conv/linear weights without a quantizer are not zero."""
    tensors = parameter_map(model)
    weights = [layer.weight for layer in graph.layers if layer.name not in stored]
    return sum(int(torch.count_nonzero(without(tensors[name].detach(), dropped.get(name, ())))) for name in weights)


def _float_buffers(graph: Graph, removed: Mapping[str, Sequence[int]]) -> int:
    """Elements of running statistics that remain: they are in the file too."""
    total = 0
    for group in graph.groups:
        units = group.units - len(removed.get(group.id, ()))
        total += sum(units * member.numel for member in group.members if member.buffer and member.role != "quantizer")
    return total
