"""A network rebuilt from its recording without the removed units: for models whose ``forward`` has sizes written
into it.

The recorded ATen operations become a ``torch.fx`` graph whose sizes (views, splits, groups, …) are adapted to what is
left; the batch size stays free, found by recording two of them. Other sizes are those of the example inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch import nn
from torch.utils._pytree import GetAttrKey
from torch.utils._pytree import KeyPath
from torch.utils._pytree import MappingKey
from torch.utils._pytree import tree_flatten_with_path
from torch.utils._pytree import tree_unflatten

from compression.errors import CompressionError
from compression.graph import blame
from compression.graph.inputs import Inputs
from compression.graph.live import live_calls
from compression.graph.record import record
from compression.graph.recording import Call
from compression.graph.recording import Ref
from compression.graph.types import Graph
from compression.graph.walk import Walk
from compression.graph.walk import walk_through

BATCHES = (2, 3)


@dataclass
class _Side:
    """One recorded batch size: the walk, and which units are gone."""

    walk: Walk
    units: NDArray[np.int64]
    gone: NDArray[np.bool_]

    def kept(self, ref: Ref, dim: int) -> NDArray[np.bool_]:
        """Which positions of a tensor's dimension remain: bool [size]."""
        kept = np.ones(ref.shape[dim], dtype=np.bool_)
        for factor in self.walk.values[ref.id].along(dim) if ref.id in self.walk.values else ():
            gone = np.where(factor.atoms >= 0, self.gone[self.units[factor.atoms]], False)
            kept &= ~gone.all(axis=tuple(d for d in range(gone.ndim) if d != dim))
        return kept

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """A tensor's shape without the removed units."""
        return tuple(int(self.kept(ref, dim).sum()) for dim in range(len(ref.shape)))


def rebuild(
    full: nn.Module,
    small: nn.Module,
    graph: Graph,
    removed: Mapping[str, Sequence[int]],
    inputs: Inputs,
) -> fx.GraphModule:
    """The slim network as a graph of plain operations over ``small``'s tensors.

    Args:
        full: the masked model, recorded again at two batch sizes.
        small: its copy with the tensors already cut.
        graph: the trace of ``full``.
        removed: group id → removed units.
        inputs: example inputs; their first dimension is the batch.

    Raises:
        CompressionError: the model cannot be replayed: it does not run on other batch sizes, or its operations depend
            on the batch size in a way that is not linear.
    """
    try:
        try:
            return _rebuild([_side(full, graph, removed, inputs, batch, False) for batch in BATCHES], small, inputs)
        except _MadeElsewhere:  # its values are not known on the meta device
            return _rebuild([_side(full, graph, removed, inputs, batch, True) for batch in BATCHES], small, inputs)
    except CompressionError:
        raise
    except Exception as error:  # operations with arguments that no graph of plain operations can hold
        raise CompressionError(f"its operations cannot be replayed ({blame.first_line(error)})") from error


def regrouped(
    full: nn.Module, small: nn.Module, graph: Graph, removed: Mapping[str, Sequence[int]], inputs: Inputs
) -> bool:
    """Whether the cut modules ``small`` work on other shapes than those of the replay: on what is left in other parts.

    A ``forward`` that splits into a fixed number of heads runs with fewer rows, but with narrower heads.
    """
    side = _side(full, graph, removed, inputs, BATCHES[0], False)
    calls = live_calls(record(small, inputs.batch_of(BATCHES[0])))
    expected = side.walk.recording.calls
    if [call.op for call in calls] != [call.op for call in expected]:
        return True
    return any(
        one is not None and two is not None and one.shape != side.shape(two)
        for call, like in zip(calls, expected, strict=True)
        for one, two in zip(call.out, like.out, strict=True)
    )


class _MadeElsewhere(CompressionError):
    """An operation uses a tensor that none of the recorded ones made, and whose values are not known."""


def _rebuild(sides: list[_Side], small: nn.Module, inputs: Inputs) -> fx.GraphModule:
    first, second = (side.walk.recording for side in sides)
    if [call.op for call in first.calls] != [call.op for call in second.calls]:
        raise CompressionError("the model runs other operations for another batch size: it cannot be rebuilt")
    builder = _Builder(sides[0], small)
    builder.place(inputs, first.inputs)
    for one, two in zip(first.calls, second.calls, strict=True):
        builder.add(one, _fit(_adapted(sides[0], one), _adapted(sides[1], two)))
    return builder.finish()


def _side(
    model: nn.Module, graph: Graph, removed: Mapping[str, Sequence[int]], inputs: Inputs, batch: int, on_values: bool
) -> _Side:
    inexact = any(not graph.group(name).exact for name in removed)
    walk = walk_through(model, inputs.batch_of(batch), inexact=inexact, on_values=on_values)
    units = walk.atoms.resolve()
    starts = {(slot.name, slot.dim): slot.start for slot in walk.atoms.slots}
    gone = np.zeros(int(units.max()) + 1, dtype=np.bool_)
    for group_id, chosen in removed.items():
        for member in graph.group(group_id).members:
            atoms = starts[(member.name, member.dim)] + member.positions[list(chosen)].numpy().ravel()
            gone[units[atoms]] = True
    return _Side(walk, units, gone)


@dataclass(frozen=True)
class _Linear:
    """A number that grows with the batch: ``slope`` x batch + ``base``."""

    slope: int
    base: int


def _fit(one: Any, two: Any) -> Any:
    """Arguments at both batch sizes → arguments in which what differs is linear in the batch."""
    if isinstance(one, (tuple, list)):
        return tuple(_fit(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict):
        return {name: _fit(value, two[name]) for name, value in one.items()}
    if isinstance(one, int) and not isinstance(one, bool) and one != two:
        slope = (two - one) // (BATCHES[1] - BATCHES[0])
        return _Linear(slope, one - slope * BATCHES[0])
    return one


_RESHAPES = {"view", "_unsafe_view", "reshape", "expand", "_reshape_alias"}


def _adapted(side: _Side, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments with every size as it is after the removal."""
    name, args = call.op.split(".")[1].rstrip("_"), list(call.args)
    out = call.out[0]
    if name in {n.rstrip("_") for n in _RESHAPES} and out is not None:
        shape = side.shape(out)
        args[1] = tuple(size if size == -1 else shape[d] for d, size in enumerate(args[1]))
    elif name in ("slice", "select", "narrow"):
        _move_positions(side, name, args)
    elif name in ("split", "split_with_sizes") and out is not None:
        dim = (args[2] if len(args) > 2 else 0) % len(out.shape)
        sizes = tuple(side.shape(ref)[dim] for ref in call.out if ref is not None)
        args[1] = sizes[0] if name == "split" else sizes
    elif name == "convolution" and args[8] > 1 and args[8] == args[0].shape[1]:
        args[8] = side.shape(args[0])[1]
    elif name == "native_group_norm":
        kept = side.kept(args[0], 1)
        args[6] = int(kept.reshape(args[6], -1).any(axis=1).sum())
        args[4] = int(kept.sum())
    elif name in ("native_layer_norm", "_fused_rms_norm"):
        args[1] = side.shape(args[0])[-len(args[1]) :]
    return tuple(args), dict(call.kwargs)


def _move_positions(side: _Side, name: str, args: list[Any]) -> None:
    """Positions along a cut axis move by what was cut before them."""
    source, dim = args[0], (args[1] if len(args) > 1 else 0) % len(args[0].shape)
    kept = side.kept(source, dim)
    for place in (2,) if name == "select" else (2, 3):
        if len(args) > place and isinstance(args[place], int) and 0 <= args[place] <= len(kept):
            args[place] = int(kept[: args[place]].sum())


class _Builder:
    """Writes the fx graph: one node an operation, tensors fetched from the module when first used."""

    def __init__(self, side: _Side, root: nn.Module) -> None:
        self.recording = side.walk.recording
        self.root = root
        self.graph = fx.Graph()
        self.nodes: dict[int, fx.Node] = {}
        self.batch: fx.Node | None = None
        self.constants: dict[str, torch.Tensor] = {}
        parameter = next(iter(root.parameters()), None)
        self.device = parameter.device if parameter is not None else torch.device("cpu")

    def place(self, inputs: Inputs, refs: Sequence[Ref]) -> None:
        """The arguments, and the tensors nested in them; the first tensor also tells the batch size."""
        given = [(self.graph.placeholder(f"x{index}"), value) for index, value in enumerate(inputs.args)]
        given += [(self.graph.placeholder(name), value) for name, value in inputs.kwargs.items()]
        tensors = [self._within(node, path) for node, value in given for path in _paths(value)]
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
        if isinstance(value, _Linear):
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
                    raise _MadeElsewhere(f"{call.op} in {call.module or 'forward()'} uses a tensor made elsewhere")
                path = f"constant_{ref.id}"
                self.constants[path] = call.constants[ref.id]
            self.nodes[ref.id] = self.graph.get_attr(path)
        return self.nodes[ref.id]

    def finish(self) -> fx.GraphModule:
        """The module, in evaluation mode; what it returns has the structure the model returned."""
        leaves = [self.nodes[ref.id] for ref in self.recording.outputs]
        told: Any = tuple(leaves) if len(leaves) > 1 else leaves[0]
        if self.recording.complete and self.recording.structure is not None:
            whole = tree_unflatten(leaves, self.recording.structure)
            told = whole if type(whole) in (tuple, list, dict, fx.Node) else told
        self.graph.output(told)
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
