"""The graph and its groups as plain data: the result of a trace, which everything else reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch

from compression.errors import CompressionError
from compression.graph.inputs import Example, Inputs
from compression.graph.reasons import Reason
from compression.representation import Represented


@dataclass(frozen=True)
class Node:
    """One recorded operation, or the model's input or output.

    ``id`` is readable and unique (``layer1.0.conv1``, ``layer1.0:add``); ``op`` is the ATen name; ``kind`` is a word
    for people (``conv``, ``linear``, ``norm``, ``add``, …); ``module`` is the path of the module that called it;
    ``shape`` is the shape of its first output; ``layer`` is the conv/linear layer that it runs, if any; ``quantizers``
    names the parameters of the quantizers merged into this node (those of its weight, or the node's own); ``branch`` is
    the id of the quantizer that this node is, or is an operation of.
    """

    id: str
    op: str
    kind: str
    module: str
    shape: tuple[int, ...]
    layer: str | None = None
    quantizers: tuple[str, ...] = ()
    branch: str | None = None


@dataclass(frozen=True)
class Branch:
    """A quantizer of the network: one node of the graph, however many operations it is written in.

    ``kind``: ``attached`` to the weight or bias of a layer, or ``inserted`` between two operations on the data;
    ``nodes``: ids of its nodes, none for an attached branch that is merged into its layer; ``target``: ids of the nodes
    that read it; ``parameters``: names of its own parameters, which belong to no unit (a step per channel is cut with
    its channel); ``operations``: ATen names in the order in which they ran.
    """

    id: str
    kind: str
    nodes: tuple[str, ...]
    target: tuple[str, ...]
    parameters: tuple[str, ...]
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Tie:
    """Why units are tied: the node that ties them (``op``), and the ``cause``, whose words are ``why``."""

    op: str
    cause: Reason

    @property
    def why(self) -> str:
        """The cause in words."""
        return str(self.cause)


@dataclass(frozen=True, eq=False)
class Member:
    """The part of one parameter (or buffer) that belongs to a group's units.

    ``positions``: int64 [units, k], the indices along ``dim`` that are removed with each unit; ``numel``: number of
    elements of one unit's slice in the dense model; ``role``: ``producer`` and ``norm`` members are zeroed with the
    unit, ``consumer`` columns read it, a ``quantizer``'s step per channel is removed with its channel, never zeroed.
    """

    name: str
    dim: int
    role: str
    numel: int
    positions: torch.Tensor
    buffer: bool = False

    @property
    def zeroed(self) -> bool:
        """Whether this slice is zero when its unit is zeroed."""
        return self.role in ("producer", "norm") and not self.buffer


@dataclass(frozen=True, eq=False, repr=False)
class Group(Represented):
    """A minimal set of parameter slices that can only be removed together, made of ``units`` units of equal shape.

    ``exact``: removing a zeroed unit leaves the model's output unchanged. ``cause`` says why a group is frozen (not
    prunable) or inexact, ``reason`` is that in words; ``place`` is the id of the node where it happens, empty where
    there is none. ``nodes`` are the ids of the nodes whose output carries these units.
    """

    id: str
    units: int
    prunable: bool
    cause: Reason | None
    exact: bool
    ties: tuple[Tie, ...]
    members: tuple[Member, ...]
    nodes: tuple[str, ...] = ()
    place: str = ""

    @property
    def reason(self) -> str | None:
        """The cause in words."""
        return None if self.cause is None else str(self.cause)

    @property
    def zeroed_members(self) -> tuple[Member, ...]:
        """The parameter slices that are zero when a unit is zero: producers and norms, no buffers."""
        return tuple(member for member in self.members if member.zeroed)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose outputs are these units."""
        return tuple(dict.fromkeys(m.name.rpartition(".")[0] for m in self.members if m.role == "producer"))

    def to_dict(self) -> dict[str, Any]:
        """An entry of ``groups`` in the ``graph`` JSON; buffers and quantizers' own parameters are omitted."""
        return {
            "id": self.id,
            "units": self.units,
            "prunable": self.prunable,
            "reason": self.reason,
            "code": self.cause.code.name if self.cause is not None else None,
            "place": self.place,
            "exact": self.exact,
            "ties": [{"op": tie.op, "why": tie.why, "code": tie.cause.code.name} for tie in self.ties],
            "parameters": [
                {"name": m.name, "dim": m.dim, "numel": m.numel, "role": m.role}
                for m in self.members
                if not m.buffer and m.role != "quantizer"
            ],
        }


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer, to which quantizers attach.

    ``macs``: for a batch of one; ``nonnegative_input``: what it reads is never below 0, as behind a ReLU.
    """

    name: str
    weight: str
    bias: str | None
    kind: str
    shape: tuple[int, ...]
    macs: int
    nonnegative_input: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Graph(Represented):
    """A traced network: nodes, edges, dependency groups and layers.

    ``sizes``: canonical name of every parameter → its shape; ``input``: the shape of one example without the batch;
    ``vocabulary``: above 0 if the input holds token ids, which are below it; ``several``: one example of all inputs of
    a network that has more than one; ``values_read``: the line of the model
    that reads tensor values (empty for most models); such a graph is valid for the control flow of the example inputs;
    ``branches``: the quantizers of the network, one node each unless it was traced with ``merge=False``;
    ``before``: the graph of the network before its layers were factored (:mod:`.factors`), of which costs are shares.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    input: tuple[int, ...]
    sizes: Mapping[str, tuple[int, ...]]
    values_read: str = ""
    branches: tuple[Branch, ...] = ()
    vocabulary: int = 0
    several: Inputs | None = None
    before: Graph | None = None

    def example(self, batch: int) -> Example:
        """Seeded random inputs [batch, \\*input]: fp32, or int64 token ids where the network takes these.

        Where it takes several tensors, those of the traced example are replaced alike; other values remain.
        """
        generator = torch.Generator().manual_seed(0)
        if self.several is not None:
            return self.several.batch_of(batch).map(lambda tensor: _drawn(tensor, generator)).example
        if self.vocabulary:
            return torch.randint(self.vocabulary, (batch, *self.input), generator=generator)
        return torch.randn(batch, *self.input, generator=generator)

    @property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one example of every input, without the batch."""
        if self.several is None:
            return (self.input,)
        return tuple(tuple(tensor.shape[1:]) for tensor in self.several.tensors)

    @property
    def prunable(self) -> tuple[Group, ...]:
        """The groups from which a method may remove units."""
        return tuple(group for group in self.groups if group.prunable)

    @property
    def prunable_units(self) -> int:
        """N: the number of units that can be removed."""
        return sum(group.units for group in self.prunable)

    @cached_property
    def params(self) -> int:
        """Number of parameters of the dense model."""
        return sum(math.prod(shape) for shape in self.sizes.values())

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of all conv and linear layers for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def origin(self) -> Graph:
        """The graph of the network as it was given: this one, unless layers were factored since."""
        return self.before or self

    @cached_property
    def nonnegative_inputs(self) -> frozenset[str]:
        """Layers whose input is never below 0, whatever the network is given: their quantizers need no sign."""
        return frozenset(layer.name for layer in self.layers if layer.nonnegative_input)

    @cached_property
    def _by_id(self) -> dict[str, Group]:
        return {group.id: group for group in self.groups}

    @cached_property
    def _by_node(self) -> dict[str, tuple[str, ...]]:
        by_node: dict[str, list[str]] = {}
        for group in self.groups:
            for node in group.nodes:
                by_node.setdefault(node, []).append(group.id)
        return {node: tuple(ids) for node, ids in by_node.items()}

    def group(self, group_id: str) -> Group:
        """The group with this id.

        Raises:
            CompressionError: there is none.
        """
        if group_id not in self._by_id:
            raise CompressionError(f"no group {group_id!r}; groups: {', '.join(list(self._by_id)[:8])}, …")
        return self._by_id[group_id]

    def group_of_node(self, node_id: str) -> tuple[str, ...]:
        """Ids of the groups whose units flow through this node's output."""
        return self._by_node.get(node_id, ())

    def to_dict(self) -> dict[str, Any]:
        """The ``graph`` JSON without the model's name and weights, which only the caller knows."""
        return {
            "input": list(self.input),
            "params": self.params,
            "macs": self.macs,
            "values_read": self.values_read,
            "nodes": [
                {
                    "id": n.id,
                    "op": n.op,
                    "kind": n.kind,
                    "module": n.module,
                    "shape": list(n.shape),
                    "layer": n.layer,
                    "quantizers": list(n.quantizers),
                    "branch": n.branch,
                }
                for n in self.nodes
            ],
            "edges": [list(edge) for edge in self.edges],
            "groups": [group.to_dict() for group in self.groups],
            "branches": [asdict(branch) for branch in self.branches],
        }


def _drawn(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random numbers of a tensor's shape and type: floats, token ids up to its largest; masks stay as they are."""
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
    if tensor.dtype in (torch.int32, torch.int64):
        return torch.randint(int(tensor.max()) + 1, tensor.shape, generator=generator).to(tensor.dtype)
    return tensor
