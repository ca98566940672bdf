"""Measuring a model in the middle of its compression: accuracy on a split, and what its present state would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compression.counting.cost import cost, remaining_shapes
from compression.errors import RunFailed
from compression.graph import Graph, parameter_map, zeroed_units
from compression.graph.cuts import cuts, without
from compression.points import Point
from compression.quant import IntegerWeight, activation_quantizers, integer_weights, weight_quantizers
from compression.training.dense import evaluate
from compression.training.loop import check_finite

if TYPE_CHECKING:
    from compression.training.setup import Setup

CURVE_IMAGES, FEWEST_IMAGES, CURVE_MACS = 1000, 100, 5e10


def measure(
    setup: Setup, model: nn.Module, *, step: int, epoch: float, phase: str, split: str = "validation",
    limit: int | None = None,
) -> Point:  # fmt: skip
    """Evaluate ``model`` in its present state and count what it would take: zero units cut out, codes entropy-coded.

    Args:
        setup: the graph and data the model belongs to.
        model: the masked model, quantizers attached or not; its mode (train/eval) does not change.
        step, epoch, phase: where in the run this is.
        split: ``validation`` for everything that may choose, ``test`` for final points only.
        limit: use only the first so many images.

    Raises:
        RunFailed: the model is no longer finite, or its loss is not.
    """
    check_finite(model)
    result = evaluate(model, setup.data, split, limit=limit)
    if not math.isfinite(result.loss):
        raise RunFailed(f"training diverged (the {split} loss is not finite): choose a smaller learning rate")
    state: dict[str, Any] = sizes(model, setup.graph)
    return Point(step=step, epoch=epoch, phase=phase, split=split, accuracy=result.accuracy, loss=result.loss, **state)


def curve_images(graph: Graph) -> int:
    """How many validation images a point on the way takes: 1,000, fewer where one image takes much arithmetic.

    The points of a run would otherwise take longer than its training; the last one counts more.
    """
    return max(FEWEST_IMAGES, min(CURVE_IMAGES, int(CURVE_MACS / max(graph.macs, 1))))


def bit_widths(model: nn.Module) -> dict[str, dict[str, float | None]]:
    """Layer → its weight and activation bit-width now; only layers that carry a quantizer."""
    weights = {name: float(quantizer.bits()) for name, quantizer in weight_quantizers(model).items()}
    activations = {name: float(quantizer.bits()) for name, quantizer in activation_quantizers(model).items()}
    names = dict.fromkeys([*weights, *activations])
    return {name: {"weight": weights.get(name), "activation": activations.get(name)} for name in names}


def sizes(model: nn.Module, graph: Graph) -> dict[str, Any]:
    """The size fields of a point for the model's present state."""
    removed = zeroed_units(model, graph)
    bits = bit_widths(model)
    integers = integer_weights(model)
    steps = {name: known.axis for name, known in integers.items() if known.axis is not None}
    counted = cost(graph, removed, {name: (b["weight"], b["activation"]) for name, b in bits.items()}, steps)
    coded, alive = _codes(model, integers, graph, removed)
    shapes = remaining_shapes(graph, removed)
    quantized = sum(math.prod(shapes[layer.weight]) for layer in graph.layers if layer.name in coded)
    weights = sum(math.prod(layer.shape) for layer in graph.layers)
    scales = sum(shapes[layer.weight][steps[layer.name]] for layer in graph.layers if layer.name in steps)
    offsets = sum(known.offset is not None for known in integers.values())
    floats = counted.params - quantized + scales + offsets + _float_buffers(graph, removed)
    return {
        "bytes": sum(coded.values()) + 4 * floats,
        "bytes_kind": "estimated",
        "nominal_bytes": counted.nominal_bytes + 4 * offsets,
        "macs": counted.macs,
        "bops": counted.bops,
        "rel_bops": counted.rel_bops,
        "unit_sparsity": counted.unit_sparsity,
        "weight_sparsity": 1 - alive / weights if weights else 0.0,
        "bits": bits,
    }


def _codes(
    model: nn.Module, integers: Mapping[str, IntegerWeight], graph: Graph, removed: dict[str, list[int]]
) -> tuple[dict[str, float], int]:
    """Entropy-coded bytes of every quantized layer's surviving codes, and how many conv/linear weights are not zero."""
    tensors = parameter_map(model)
    dropped = cuts(graph, removed)
    coded: dict[str, float] = {}
    alive = 0
    for layer in graph.layers:
        known = integers.get(layer.name)
        values = known.codes if known is not None else tensors[layer.weight].detach()
        values = without(values, dropped.get(layer.weight, ()))
        alive += int(torch.count_nonzero(values))
        if known is not None:
            coded[layer.name] = entropy_bytes(values)
    return coded, alive


def entropy_bytes(codes: torch.Tensor) -> float:
    """Bytes an ideal entropy coder needs for these integers, their own frequencies known."""
    if codes.numel() == 0:
        return 0.0
    flat = codes.flatten().to(torch.int64)
    if int(flat.max() - flat.min()) < 8 * flat.numel() + 1024:  # counting by place is fast, but takes the whole range
        counts = torch.bincount(flat - flat.min())
    else:  # steps not bound yet may make 32-bit codes
        counts = torch.unique(flat, return_counts=True)[1]
    shares = counts[counts > 0].double() / flat.numel()
    return float(-(shares * shares.log2()).sum() * codes.numel() / 8)


def _float_buffers(graph: Graph, removed: dict[str, list[int]]) -> int:
    """Elements of running statistics that stay: they are in the file too."""
    total = 0
    for group in graph.groups:
        kept = group.units - len(removed.get(group.id, ()))
        total += sum(kept * member.numel for member in group.members if member.buffer and member.role != "quantizer")
    return total
