"""Writing a ``torch.fx`` graph from recorded operations with adapted arguments."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import GetAttrKey, KeyPath, MappingKey, tree_flatten_with_path, tree_unflatten

from compression.errors import CompressionError
from compression.graph.inputs import Inputs
from compression.graph.recording import Call, Recording, Ref


class UnknownOrigin(CompressionError):
    """An operation uses a tensor that no recorded operation returned and whose values are unknown."""


@dataclass(frozen=True)
class Linear:
    """A number that grows with the batch: ``slope`` x batch + ``base``."""

    slope: int
    base: int


class Builder:
    """Writes the fx graph: one node an operation, tensors fetched from the module when first used."""

    def __init__(self, recording: Recording, root: nn.Module) -> None:
        self.recording = recording
        self.root = root
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        self.batch: fx.Node | None = None
        self.constants: dict[str, torch.Tensor] = {}
        parameter = next(iter(root.parameters()), None)
        self.device = parameter.device if parameter is not None else torch.device("cpu")

    def place(self, inputs: Inputs, refs: Sequence[Ref]) -> None:
        """Add the arguments and the tensors nested in them; the first tensor also gives the batch size."""
        arguments = [(self.graph.placeholder(f"x{index}"), value) for index, value in enumerate(inputs.args)]
        arguments += [(self.graph.placeholder(name), value) for name, value in inputs.kwargs.items()]
        tensors = [self._within(node, path) for node, value in arguments for path in _paths(value)]
        for node, ref in zip(tensors, refs, strict=True):
            self.nodes[ref.id] = node
            if self.batch is None and ref.shape:
                self.batch = self.graph.call_function(torch.ops.aten.sym_size.int, (node, 0))

    def _within(self, node: fx.Node, path: KeyPath) -> fx.Node:
        for key in path:
            if isinstance(key, GetAttrKey):
                node = self.graph.call_function(getattr, (node, key.name))
            else:
                place = key.key if isinstance(key, MappingKey) else key.idx  # type: ignore[attr-defined]
                node = self.graph.call_function(operator.getitem, (node, place))
        return node

    def add(self, call: Call, adapted: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        """One operation with its adapted arguments."""
        args = tuple(self._argument(value, call) for value in adapted[0])
        kwargs = {name: self._argument(value, call) for name, value in adapted[1].items()}
        node = self.graph.call_function(call.func, args, kwargs)
        if len(call.out) == 1 and not _returns_many(call):
            if call.out[0] is not None:
                self.nodes[call.out[0].id] = node
            return
        for index, ref in enumerate(call.out):
            if ref is not None:
                self.nodes[ref.id] = self.graph.call_function(operator.getitem, (node, index))

    def _argument(self, value: Any, call: Call) -> Any:
        if isinstance(value, Ref):
            return self._node(value, call)
        if isinstance(value, Linear):
            grown = self.graph.call_function(operator.mul, (self.batch, value.slope))
            return self.graph.call_function(operator.add, (grown, value.base)) if value.base else grown
        if isinstance(value, torch.device) and value.type == "meta":
            return self.device
        if isinstance(value, (tuple, list)):
            return [self._argument(item, call) for item in value]
        return value

    def _node(self, ref: Ref, call: Call) -> fx.Node:
        if ref.id not in self.nodes:
            path = self.recording.paths.get(ref.id)
            if path is None:
                if ref.id not in call.constants:
                    raise UnknownOrigin(f"{call.op} in {call.module or 'forward()'} uses a tensor made elsewhere")
                path = f"constant_{ref.id}"
                self.constants[path] = call.constants[ref.id]
            self.nodes[ref.id] = self.graph.get_attr(path)
        return self.nodes[ref.id]

    def finish(self) -> fx.GraphModule:
        """The module, in evaluation mode; what it returns has the structure the model returned."""
        leaves = [self.nodes[ref.id] for ref in self.recording.outputs]
        returned: Any = tuple(leaves) if len(leaves) > 1 else leaves[0]
        if self.recording.complete and self.recording.structure is not None:
            whole = tree_unflatten(leaves, self.recording.structure)
            returned = whole if type(whole) in (tuple, list, dict, fx.Node) else returned
        self.graph.output(returned)
        for name, tensor in self.constants.items():
            self.root.register_buffer(name, tensor, persistent=True)
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph).eval()


def _returns_many(call: Call) -> bool:
    returns = call.func._schema.returns
    return len(returns) > 1 or "List" in str(returns[0].type) or "[]" in str(returns[0].type)


def _paths(argument: Any) -> list[KeyPath]:
    """Where the tensors of an argument are."""
    leaves, _ = tree_flatten_with_path(argument)
    return [path for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
