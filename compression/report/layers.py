"""Every layer of a compressed network beside the dense one: from its packed file, or from what its run recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compression.plots.layers import FULL_BITS, LayerChange

if TYPE_CHECKING:
    from compression.graph import Graph
    from compression.pack.contents import Stored

Dense = Mapping[str, tuple[str, tuple[int, ...] | None, int]]
"""Name of a weight → its layer, its shape in the dense network (``None``: not known), the axis of output channels."""
Widths = Mapping[str, Mapping[str, float | None]]


def dense_layers(graph: Graph) -> Dense:
    """The weights of a traced network."""
    axes = {m.name: m.dim for group in graph.groups for m in group.members if m.role == "producer"}
    return {layer.weight: (layer.name, layer.shape, axes.get(layer.weight, 0)) for layer in graph.layers}


def stored_layers(
    stored: Mapping[str, Stored], dense: Dense | None, result: Mapping[str, Any]
) -> tuple[LayerChange, ...]:
    """The layers of a packed file, beside those of the ``dense`` network where it is at hand."""
    from compression.graph.factors import FIRST, LAST

    bits: Widths = result["final"].get("bits") or {}
    before: Dense = dense or {
        name: (name.removesuffix(".weight"), None, 0)
        for name, tensor in stored.items()
        if len(tensor.shape) > 1 and name.endswith("weight")
    }

    def change(weight: str, layer: str, shape: tuple[int, ...] | None, axis: int) -> LayerChange:
        now, widths = stored[weight], bits.get(layer, {})
        return LayerChange(layer, shape, now.shape, now.alive, now.bits, widths.get("activation"), now.bytes, axis)

    changes, ranks = [], result.get("ranks") or ()
    for weight, (layer, shape, axis) in before.items():
        if layer in ranks:
            names = [f"{layer}.{part}" for part in (FIRST, LAST)]
            first, last = (change(f"{name}.weight", name, None, axis) for name in names)
            changes.append(LayerChange.of_factors(layer, shape, first, last))
        elif weight in stored:
            changes.append(change(weight, layer, shape, axis))
    return tuple(changes)


def recorded_layers(graph: Graph, result: Mapping[str, Any]) -> tuple[LayerChange, ...]:
    """Layers after a run that left no model: the dense shapes without the rows and columns of the removed units.

    ``bytes`` are nominal then, ``alive`` counts all remaining weights.
    """
    from compression.graph.cuts import cuts

    removed: Mapping[str, Sequence[int]] = result.get("units") or {}
    bits: Widths = result["final"].get("bits") or {}
    cut = {(name, dim): len(at.unique()) for name, places in cuts(graph, removed).items() for dim, at in places}
    changes = []
    for weight, (layer, shape, axis) in dense_layers(graph).items():
        after = tuple(size - cut.get((weight, dim), 0) for dim, size in enumerate(shape or ()))
        widths, count = bits.get(layer, {}), math.prod(after)
        nominal = round(count * (widths.get("weight") or FULL_BITS) / 8)
        changes.append(
            LayerChange(layer, shape, after, count, widths.get("weight"), widths.get("activation"), nominal, axis)
        )
    return tuple(changes)
