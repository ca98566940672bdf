"""The oracle of the graph tests: zero random units of every prunable group, slim, and compare both networks in fp64."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from compression.graph import Graph, slim_report, trace, zero_units, zeroed_units

EXACT = 1e-10
Inputs = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Checked:
    """What came out: the graph, the prunable groups' sizes, the largest difference, and the slim network."""

    graph: Graph
    groups: dict[str, int]
    error: float
    rebuilt: bool
    small: nn.Module


def shake(model: nn.Module, seed: int = 1) -> nn.Module:
    """Statistics, scales and shifts away from their defaults, so that a wrong cut changes the output."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.data = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5
    return model


def tensors(output: object) -> list[torch.Tensor]:
    """Every tensor in what a model returns."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def as_double(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return tuple(x.double() if x.is_floating_point() else x for x in given)


def some_units(graph: Graph, seed: int = 2) -> dict[str, list[int]]:
    """Random 30 to 70 % of the units of every prunable group, at least one and never all."""
    chosen = {}
    for group in graph.prunable:
        generator = torch.Generator().manual_seed(seed + zlib.crc32(group.id.encode()) % 2**31)
        share = 0.3 + 0.4 * float(torch.rand(1, generator=generator))
        count = min(group.units - 1, max(1, round(share * group.units)))
        chosen[group.id] = sorted(torch.randperm(group.units, generator=generator)[:count].tolist())
    return chosen


def check_removal(model: nn.Module, inputs: Inputs, *, seed: int = 2) -> Checked:
    """Trace, zero, slim and compare; asserts that the slim network is smaller and computes the same."""
    model, inputs = shake(model.double().eval()), as_double(inputs)
    graph = trace(model, inputs)
    units = some_units(graph, seed)
    zero_units(model, graph, units)
    assert zeroed_units(model, graph) == units
    small, report = slim_report(model, graph, inputs)
    with torch.no_grad():
        expected, got = tensors(model(*inputs)), tensors(small(*inputs))
    assert len(expected) == len(got)
    error = 0.0
    for left, right in zip(expected, got, strict=True):
        assert left.shape == right.shape
        assert torch.isfinite(left).all()
        error = max(error, float((left - right).abs().max()) / max(1.0, float(left.abs().max())))
    assert error <= EXACT, f"the slim network differs by {error:.1e}"
    if units:
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    return Checked(graph, {g.id: g.units for g in graph.prunable}, error, report.rebuilt, small)
