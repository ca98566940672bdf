"""From a network to its graph: record one forward pass, replay it on owners, and read off nodes, layers and groups."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.groups import find_groups
from compression.graph.types import Graph
from compression.graph.walk import walk_through


def trace(
    model: nn.Module, example_inputs: torch.Tensor | tuple[torch.Tensor, ...],
    *, frozen: Iterable[str] = (), inexact: bool = False, merge: bool = True,
) -> Graph:  # fmt: skip
    """Find the graph of a network, and which parameter slices can only be removed together.

    The model is run once, in evaluation mode, on the meta device (on real tensors if it looks at values) and left as it
    was; quantizers on it do not change the result (GETA's quantization-aware dependency graph, paper section 4.1).

    Args:
        model: any ``nn.Module``, with or without quantizers.
        example_inputs: a tensor or a tuple of tensors [batch, …] the model accepts.
        frozen: canonical parameter names that must stay as they are.
        inexact: also allow units whose removal the others notice: those that a norm or a mean averages over (the trunk
            of a transformer, say). Their groups say ``exact`` False and why; :func:`slim` then reports how much the
            output changes instead of refusing it.
        merge: a quantizer is one node, or part of its layer, however it is written; ``False`` makes each of its
            operations a node. The groups are the same.

    Raises:
        CompressionError: the model does not run on these inputs (the line of its code is named), returns no tensor, or
            a frozen name does not exist.
    """
    inputs = _checked(model, example_inputs)
    walk = walk_through(model, inputs, frozen, inexact=inexact, merge=merge)
    recording, batch = walk.recording, max(1, inputs[0].shape[0]) if inputs[0].ndim else 1
    layers = walk.layers.layers(recording, batch)
    return Graph(
        nodes=tuple(walk.nodes),
        edges=tuple(dict.fromkeys(walk.edges)),
        groups=find_groups(walk.atoms, {**recording.sizes, **recording.buffer_sizes}, {x.weight for x in layers}),
        layers=layers,
        input=tuple(inputs[0].shape[1:]),
        sizes=dict(recording.sizes),
        values_read=recording.values_read,
        branches=walk.merging.branches(recording, walk.edges),
        vocabulary=0 if inputs[0].is_floating_point() else int(inputs[0].max()) + 1,
    )


def _checked(model: nn.Module, given: object) -> tuple[torch.Tensor, ...]:
    inputs = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if not isinstance(model, nn.Module):
        raise CompressionError(f"the model must be a torch.nn.Module, not {_named(model)}")
    wrong = next((value for value in inputs if not isinstance(value, torch.Tensor)), None)
    if wrong is not None or not inputs:
        found = _named(wrong) if inputs else "nothing"
        raise CompressionError(f"example_inputs must be a tensor or a tuple of tensors [batch, …], not {found}")
    return inputs


def _named(value: object) -> str:
    return f"the class {value.__name__}: make one first" if isinstance(value, type) else f"a {type(value).__name__}"
