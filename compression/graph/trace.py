"""From a network to its graph: record one forward pass, replay it on owners, and read off nodes, layers and groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

import numpy as np
import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.atoms import Atoms
from compression.graph.groups import find_groups
from compression.graph.layers import LayerTable
from compression.graph.record import Call
from compression.graph.record import Recording
from compression.graph.record import Ref
from compression.graph.record import record
from compression.graph.record import replace_all
from compression.graph.rules import Step
from compression.graph.rules import apply
from compression.graph.types import Graph
from compression.graph.types import Node
from compression.graph.values import Factor
from compression.graph.values import Value

_KINDS = {
    "conv": "convolution",
    "linear": "addmm mm linear",
    "matmul": "bmm baddbmm",
    "norm": "native_batch_norm _native_batch_norm_legit_no_training native_layer_norm native_group_norm",
    "add": "add add_ sub",
    "product": "mul mul_ div",
    "concat": "cat stack",
    "pool": "mean max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d",
    "reshape": "view _unsafe_view permute transpose expand unsqueeze squeeze",
    "split": "select slice split split_with_sizes unbind",
    "softmax": "_softmax _safe_softmax",
    "embedding": "embedding",
    "quantizer": "fake_quantize",
}
KINDS = {op: kind for kind, ops in _KINDS.items() for op in ops.split()}
_SILENT = frozenset({"aten.detach", "aten.alias", "aten.clone", "aten.t", "aten.empty", "aten.lift_fresh"})


@dataclass
class _Replay:
    """State of a replay: what every value id carries, and the nodes and edges found so far."""

    recording: Recording
    atoms: Atoms = field(default_factory=Atoms)
    values: dict[int, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    layers: LayerTable = field(default_factory=LayerTable)


def trace(
    model: nn.Module, example_inputs: torch.Tensor | tuple[torch.Tensor, ...], *, frozen: Iterable[str] = ()
) -> Graph:
    """Find the graph of a network, and which parameter slices can only be removed together.

    The model is run once, in evaluation mode, on the meta device (on real tensors if it looks at values) and left as it
    was; quantizers on it do not change the result (GETA's quantization-aware dependency graph, paper section 4.1).

    Args:
        model: any ``nn.Module``, with or without quantizers.
        example_inputs: a tensor or a tuple of tensors [batch, …] the model accepts.
        frozen: canonical parameter names that must stay as they are.

    Raises:
        CompressionError: the model does not run on these inputs, or a frozen name does not exist.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    replay = _Replay(record(model, inputs))
    _start(replay)
    for call in replay.recording.calls:
        _play(replay, call)
    _finish(replay, set(frozen))
    recording, batch = replay.recording, max(1, inputs[0].shape[0]) if inputs[0].ndim else 1
    layers = replay.layers.layers(recording, batch)
    return Graph(
        nodes=tuple(replay.nodes),
        edges=tuple(dict.fromkeys(replay.edges)),
        groups=find_groups(replay.atoms, {**recording.sizes, **recording.buffer_sizes}, {x.weight for x in layers}),
        layers=layers,
        input=tuple(inputs[0].shape[1:]),
        sizes=dict(recording.sizes),
    )


def _start(replay: _Replay) -> None:
    for index, ref in enumerate(replay.recording.inputs):
        name = "input" if index == 0 else f"input#{index + 1}"
        replay.nodes.append(Node(name, "input", "input", "", ref.shape))
        replay.values[ref.id] = Value(ref.shape, sources=frozenset({name}))


def _value(replay: _Replay, ref: Ref) -> Value:
    """What a tensor carries; a parameter or buffer gets its atoms when first met, so that slots stand in forward
    order.
    """
    found = replay.values.get(ref.id)
    if found is None:
        recording = replay.recording
        name = recording.parameters.get(ref.id) or recording.buffers.get(ref.id)
        if name is None:
            found = Value(ref.shape, constant=True)
        else:
            found = Value(ref.shape, _owners(replay.atoms, name, ref, ref.id in recording.buffers), origin=name)
        replay.values[ref.id] = found
    return found


def _owners(atoms: Atoms, name: str, ref: Ref, buffer: bool) -> tuple[Factor, ...]:
    factors = []
    for dim, size in enumerate(ref.shape):
        if size > 1:
            shape = [1] * len(ref.shape)
            shape[dim] = size
            factors.append(Factor(atoms.slot(name, dim, size, buffer).reshape(shape)))
    return tuple(factors)


def _play(replay: _Replay, call: Call) -> None:
    def seen(ref: Ref) -> Value:
        return _value(replay, ref)

    args = replace_all(call.args, Ref, seen)
    kwargs = {name: replace_all(argument, Ref, seen) for name, argument in call.kwargs.items()}
    where = _name(replay, call)
    shapes = tuple(ref.shape if ref is not None else () for ref in call.out)
    if not shapes:
        return
    step = Step(call.op, args, kwargs, shapes, where, replay.atoms, call)
    values = apply(step)
    operands = step.operands
    from_data = any(v.sources for v in operands)
    if from_data and not _silent(replay, call):
        values = _add_node(replay, call, where, operands, values)
    for ref, value in zip(call.out, values, strict=True):
        if ref is not None:
            replay.values[ref.id] = value


def _silent(replay: _Replay, call: Call) -> bool:
    """Operations not worth a node: bookkeeping, and the reshapes a linear layer does around its product."""
    inside_linear = replay.recording.modules.get(call.module, "").endswith("Linear")
    return call.op in _SILENT or (inside_linear and call.op in ("aten.view", "aten._unsafe_view", "aten.expand"))


def _name(replay: _Replay, call: Call) -> str:
    """A readable id: the module's path where the module is a leaf, else path:op; repeats are numbered."""
    short = call.op.split(".")[1].strip("_")
    if call.module and call.module in replay.recording.leaves:
        base = call.module
        if replay.names[base] and KINDS.get(short) not in ("conv", "linear", "norm", "matmul"):
            base = f"{call.module}:{short}"
    else:
        base = f"{call.module}:{short}" if call.module else short
    return base if not replay.names[base] else f"{base}#{replay.names[base] + 1}"


def _add_node(
    replay: _Replay, call: Call, where: str, operands: list[Value], values: tuple[Value, ...]
) -> tuple[Value, ...]:
    replay.names[where.split("#")[0]] += 1
    short = call.op.split(".")[1]
    layer = replay.layers.note(call, operands, values[0].shape)
    replay.nodes.append(Node(where, call.op, KINDS.get(short, short.strip("_")), call.module, values[0].shape, layer))
    for source in sorted({s for v in operands for s in v.sources}):
        replay.edges.append((source, where))
    for value in values:
        if value.factors:
            replay.atoms.carried.append((where, value.all_atoms()))
    return tuple(Value(v.shape, v.factors, None, frozenset({where})) for v in values)


def _finish(replay: _Replay, frozen: set[str]) -> None:
    """Freeze what the output, the user and modules with a fixed number of heads hold."""
    for slot in replay.atoms.slots:
        if replay.recording.modules.get(slot.name.rsplit(".", 1)[0]) == "MultiheadAttention" and "in_proj" in slot.name:
            atoms = np.arange(slot.start, slot.start + slot.size)
            replay.atoms.freeze(atoms, slot.name, "nn.MultiheadAttention fixes its number of heads")
    outputs = [_value(replay, ref) for ref in replay.recording.outputs]
    if not outputs:
        raise CompressionError("the model returns no tensor, so there is nothing to trace")
    for index, value in enumerate(outputs):
        name = "output" if index == 0 else f"output#{index + 1}"
        replay.nodes.append(Node(name, "output", "output", "", value.shape))
        replay.edges.extend((source, name) for source in sorted(value.sources))
        replay.atoms.freeze(value.all_atoms(), name, "adjacent to the output")
    unknown = frozen - {slot.name for slot in replay.atoms.slots}
    if unknown:
        raise CompressionError(f"cannot freeze {sorted(unknown)[0]!r}: the model uses no parameter of that name")
    for slot in replay.atoms.slots:
        if slot.name in frozen:
            replay.atoms.freeze(np.arange(slot.start, slot.start + slot.size), slot.name, "user")
