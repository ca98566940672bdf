"""What a network costs after removing units and lowering bits: parameters, MACs, BOPs, nominal bytes. Pure counting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compression.graph.types import Graph

FULL_BITS = 32

Removed = Mapping[str, Sequence[int] | int]
Bits = Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Cost:
    """What a network takes.

    ``macs``: multiply-accumulates of conv and linear layers for one example; ``bops``: MACs x weight bits x activation
    bits, 32 for a side in float; ``rel_bops``: relative to the dense fp32 network; ``nominal_bytes``: weights at their
    bit-width, 4 bytes for each step and for every parameter in float (positions of zeros are not counted).
    """

    params: int
    macs: float
    bops: float
    rel_bops: float
    nominal_bytes: float
    unit_sparsity: float


def cost(
    graph: Graph, removed: Removed | None = None, bits: Bits | None = None, steps: Mapping[str, int] | None = None
) -> Cost:
    """Count a network without the removed units and with these bit-widths (GETA, paper section 5: relative BOPs).

    Args:
        graph: of the dense network, perhaps with factored layers: shares are of the one before.
        removed: group id → units removed (their list, or how many).
        bits: layer name → (weight bits, activation bits); ``None`` and absent layers mean 32-bit float.
        steps: layer name → the dimension of its weight along which each channel has a step of its own.
    """
    removed, bits, steps = removed or {}, bits or {}, steps or {}
    shapes = remaining_shapes(graph, removed)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    macs = bops = saved = 0.0
    for layer in graph.layers:
        remaining = layer.macs * sizes[layer.weight] / math.prod(layer.shape)
        weight, activation = bits.get(layer.name, (None, None))
        macs += remaining
        bops += remaining * _whole(weight) * _whole(activation)
        if weight is not None:
            scales = shapes[layer.weight][steps[layer.name]] if layer.name in steps else 1
            saved += sizes[layer.weight] * (FULL_BITS - weight) / 8 - 4 * scales
    params = sum(sizes.values())
    units_removed = sum(_count(units) for name, units in removed.items() if graph.group(name).prunable)
    return Cost(
        params=params,
        macs=macs,
        bops=bops,
        rel_bops=bops / (graph.origin.macs * FULL_BITS**2) if graph.origin.macs else 0.0,
        nominal_bytes=4 * params - saved,
        unit_sparsity=units_removed / graph.prunable_units if graph.prunable_units else 0.0,
    )


def remaining_macs(graph: Graph, removed: Removed) -> dict[str, float]:
    """Layer name → its multiply-accumulates without the removed units."""
    shapes = remaining_shapes(graph, removed)
    return {layer.name: layer.macs * math.prod(shapes[layer.weight]) / math.prod(layer.shape) for layer in graph.layers}


def output_axes(graph: Graph) -> dict[str, int]:
    """Layer name → the dimension of its weight along which its output channels lie: 0, transposed convolutions' 1."""
    axes = {member.name: member.dim for group in graph.groups for member in group.members if member.role == "producer"}
    return {layer.name: axes.get(layer.weight, 0) for layer in graph.layers}


def inputs_in_float(graph: Graph) -> set[str]:
    """Layers whose input no quantizer reaches: the projection within ``nn.MultiheadAttention`` is never called."""
    inside = ("in_proj_weight", "q_proj_weight")
    prefixes = {layer.name: layer.name.removesuffix("out_proj") for layer in graph.layers}
    return {
        name
        for name, prefix in prefixes.items()
        if prefix != name and any(f"{prefix}{weight}" in graph.sizes for weight in inside)
    }


def remaining_shapes(graph: Graph, removed: Removed) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter without the removed units."""
    shapes = {name: list(shape) for name, shape in graph.sizes.items()}
    for group_id, units in removed.items():
        for member in graph.group(group_id).members:
            if not member.buffer:
                shapes[member.name][member.dim] -= _count(units) * member.positions.shape[1]
    return {name: tuple(shape) for name, shape in shapes.items()}


def _count(units: Sequence[int] | int) -> int:
    return units if isinstance(units, int) else len(units)


def _whole(bits: float | None) -> float:
    return FULL_BITS if bits is None else round(bits)
