"""From a network to its graph: record one forward pass, replay it on owners, and build nodes, layers and groups."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.groups import find_groups
from compression.graph.inputs import Example, Inputs, described
from compression.graph.replay import replay
from compression.graph.types import Graph


def trace(
    model: nn.Module, example_inputs: Example,
    *, frozen: Iterable[str] = (), inexact: bool = False, merge: bool = True,
) -> Graph:  # fmt: skip
    """Find the graph of a network, and which parameter slices can only be removed together.

    The model is run once, in evaluation mode, on the meta device (on real tensors if it reads values) and is not
    changed; quantizers on it do not change the result (GETA's quantization-aware dependency graph, paper section 4.1).

    Args:
        model: any ``nn.Module``, with or without quantizers.
        example_inputs: a tensor [batch, …] the model accepts, a tuple of its positional arguments or a dict of its
            keyword arguments, in which tensors may be nested.
        frozen: canonical parameter names that must stay as they are.
        inexact: also allow units whose removal changes the others: those that a norm or a mean averages over (the trunk
            of a transformer, say). Their groups have ``exact`` False and a ``cause``; :func:`slim_report` then returns
            how much the output changes instead of refusing it.
        merge: a quantizer is one node, or part of its layer, however it is written; ``False``: each of its
            operations is a node. The groups are the same.

    Raises:
        CompressionError: the model does not run on these inputs (the line of its code is named), returns no tensor, or
            a frozen name does not exist.
    """
    if not isinstance(model, nn.Module):
        raise CompressionError(f"the model must be a torch.nn.Module, not {described(model)}")
    inputs = Inputs.read(example_inputs)
    state = replay(model, inputs, frozen, inexact=inexact, merge=merge)
    first = inputs.tensors[0]
    recording, batch = state.recording, max(1, first.shape[0]) if first.ndim else 1
    layers = state.layers.layers(recording, batch)
    return Graph(
        nodes=tuple(state.nodes),
        edges=tuple(dict.fromkeys(state.edges)),
        groups=find_groups(state.provenance, {**recording.sizes, **recording.buffer_sizes}, {x.weight for x in layers}),
        layers=layers,
        input=tuple(first.shape[1:]),
        sizes=dict(recording.sizes),
        values_read=recording.values_read,
        branches=state.merging.branches(recording, state.edges),
        vocabulary=_vocabulary(first),
        several=None if len(inputs.tensors) == len(inputs.args) == 1 and inputs.args[0] is first else _one(inputs),
    )


def _one(inputs: Inputs) -> Inputs:
    """One example of inputs, with values: what was given on the meta device has none, and becomes zeros."""
    return inputs.batch_of(1).map(lambda x: torch.zeros(x.shape, dtype=x.dtype) if x.is_meta else x.detach().cpu())


def _vocabulary(ids: torch.Tensor) -> int:
    """The least possible number of token ids; 0 for a tensor that contains none."""
    if ids.is_floating_point() or ids.is_complex() or ids.is_meta or not ids.numel():
        return 0
    return int(ids.max()) + 1
