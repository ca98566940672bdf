"""Layers of lower rank: two thin layers in the place of one, and the graph of the network that has them.

A weight W [n, d] of rank r is a product of [n, r] and [r, d]: a convolution becomes its own kernel to r channels and a
1x1 convolution to n, a linear layer two linear layers. The factored layer is an ``nn.Sequential`` of ``first`` and
``last``; it is the same object as before, so that hooks and references to it hold.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from torch import nn
from torch.nn.modules.conv import _ConvNd

from compression.errors import CompressionError
from compression.graph.inputs import Inputs
from compression.graph.reasons import Code, Reason
from compression.graph.trace import trace
from compression.graph.types import Graph, Group

FIRST, LAST = "first", "last"
Ranks = Mapping[str, int]
"""Layer → the rank of its two factors."""
Plain = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # exactly these: a class of its own may compute otherwise


def factorable(model: nn.Module, graph: Graph) -> list[str]:
    """The layers that two layers can stand for: plain, with one group of channels, and a weight of their own."""
    modules = dict(model.named_modules())
    uses = Counter(id(own) for module in modules.values() for own in module._parameters.values() if own is not None)

    def alone(module: nn.Module | None) -> bool:
        return _plain(module) and all(uses[id(own)] == 1 for own in module.parameters())

    return [
        layer.name
        for layer in graph.layers
        if layer.weight == f"{layer.name}.weight" and alone(modules.get(layer.name))
    ]


def _plain(layer: nn.Module | None) -> TypeGuard[Plain]:
    return type(layer) in _PLAIN and getattr(layer, "groups", 1) == 1


def factored(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Give these layers factors, in place, whose weights are zero until they are set; returns ``model``.

    Raises:
        CompressionError: no plain layer of that name, or a rank that it cannot have; nothing is changed then.
    """
    modules = dict(model.named_modules())
    pairs = {name: _pair(name, modules.get(name), rank) for name, rank in ranks.items()}
    for name, pair in pairs.items():
        layer = modules[name]
        hooks = {key: value for key, value in vars(layer).items() if "hooks" in key}
        layer.__class__ = nn.Sequential
        layer.__dict__ = {**vars(pair), **hooks}
    return model


def factors_of(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The two layers of a factored one."""
    return layer.get_submodule(FIRST), layer.get_submodule(LAST)


def _pair(name: str, layer: nn.Module | None, rank: int) -> nn.Sequential:
    """The two layers; the bias, if any, is that of the second."""
    if not name or not _plain(layer):
        raise CompressionError(f"layer {name!r} cannot be factored: it is no plain convolution or linear layer")
    weight = layer.weight
    most = min(len(weight), weight[0].numel())
    if not 1 <= rank <= most:
        raise CompressionError(f"layer {name!r} has ranks 1 to {most}, not {rank}")
    place: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    first: nn.Linear | _ConvNd
    last: nn.Linear | _ConvNd
    if isinstance(layer, nn.Linear):
        first = nn.Linear(layer.in_features, rank, bias=False, **place)
        last = nn.Linear(rank, layer.out_features, bias=False, **place)
    else:
        shape: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        kind: Any = type(layer)
        padding = {"padding_mode": layer.padding_mode}
        first = kind(layer.in_channels, rank, layer.kernel_size, bias=False, **shape, **padding, **place)
        last = kind(rank, layer.out_channels, 1, bias=False, **place)
    for factor in (first, last):
        nn.init.zeros_(factor.weight)
        factor.weight.requires_grad_(weight.requires_grad)
    last.bias = layer.bias
    return nn.Sequential(OrderedDict({FIRST: first, LAST: last})).train(layer.training)


def factored_graph(model: nn.Module, graph: Graph, ranks: Ranks) -> Graph:
    """The graph of a ``model`` of which these layers were factored; ``graph`` is that of the network before.

    Groups have the names that they had before. The channels between two factors are groups, too, which are not
    prunable: their number is the rank.

    Raises:
        CompressionError: the groups whose units can be removed are others than before.
    """
    if not ranks:
        return graph
    parameter = next((x for x in model.parameters() if x.is_floating_point()), None)
    inputs = Inputs.read(graph.example(1))
    if parameter is not None and not parameter.is_meta:
        device = parameter.device
        inputs = inputs.map(lambda x: x.to(device, parameter.dtype if x.is_floating_point() else x.dtype))
    traced = trace(model, inputs.example)
    groups = tuple(_named_as_before(group, ranks) for group in traced.groups)
    before = {group.id: group.units for group in graph.prunable}
    after = {group.id: group.units for group in groups if group.prunable}
    if before != after:
        name = next(name for name in (*before, *after) if before.get(name) != after.get(name))
        raise CompressionError(f"with layers of lower rank group {name} is another one: leave its layers whole")
    return replace(
        traced, groups=groups, input=graph.input, vocabulary=graph.vocabulary, several=graph.several, before=graph
    )


def _named_as_before(group: Group, ranks: Collection[str]) -> Group:
    base, mark, number = group.id.partition("#")
    layer, _, part = base.rpartition(".")
    if layer not in ranks or part not in (FIRST, LAST):
        return group
    if part == LAST:
        return replace(group, id=f"{layer}{mark}{number}")
    return replace(group, prunable=False, cause=Reason(Code.rank))
