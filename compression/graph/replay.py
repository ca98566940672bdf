"""A recording replayed on owners: the owners of every tensor's positions, and the nodes, edges and layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from torch import nn

from compression.errors import CompressionError
from compression.graph.flow import quantizes
from compression.graph.inputs import Inputs
from compression.graph.kinds import KINDS, kind_of
from compression.graph.layers import LayerCollector
from compression.graph.live import live_calls
from compression.graph.merging import Merging, prepare
from compression.graph.provenance import Provenance
from compression.graph.reasons import Code, Reason, Why
from compression.graph.record import record
from compression.graph.recording import Call, Recording, Ref, replace_all
from compression.graph.rules import Step, apply
from compression.graph.signs import never_negative
from compression.graph.types import Node
from compression.graph.values import Factor, Value, overwritten

_SILENT = frozenset({"aten.detach", "aten.alias", "aten.clone", "aten.t", "aten.empty", "aten.lift_fresh"})


@dataclass
class Replay:
    """The state of a replay: ``values`` holds the owners of every value id; ``names`` counts the node ids in use."""

    recording: Recording
    provenance: Provenance = field(default_factory=Provenance)
    values: dict[int, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    layers: LayerCollector = field(default_factory=LayerCollector)
    merging: Merging = field(default_factory=Merging)


def replay(
    model: nn.Module, inputs: Inputs, frozen: Iterable[str] = (),
    *, inexact: bool = False, merge: bool = True, on_values: bool = False,
) -> Replay:  # fmt: skip
    """Record one forward pass and replay it on owners (see :func:`trace`, and :func:`record` for ``on_values``)."""
    state = Replay(record(model, inputs, on_values=on_values), Provenance(inexact))
    state.recording.calls = live_calls(state.recording)
    state.merging = prepare(state.recording, merge)
    state.provenance.quantizer_parameters = state.merging.quantizer_parameters
    _start(state)
    for call in state.recording.calls:
        _replay_call(state, call)
    _finish(state, set(frozen))
    return state


def _start(state: Replay) -> None:
    for index, ref in enumerate(state.recording.inputs):
        name = "input" if index == 0 else f"input#{index + 1}"
        state.nodes.append(Node(name, "input", "input", "", ref.shape))
        state.values[ref.id] = Value(ref.shape, sources=frozenset({name}))


def _value(state: Replay, ref: Ref) -> Value:
    """The owners of a tensor; a parameter or buffer gets its atoms at its first use, so slots are in forward order."""
    value = state.values.get(ref.id)
    if value is None:
        recording = state.recording
        name = recording.parameters.get(ref.id) or recording.buffers.get(ref.id)
        if name is None:
            value = Value(ref.shape, constant=True)
        else:
            value = Value(ref.shape, _owners(state.provenance, name, ref, ref.id in recording.buffers), origin=name)
        state.values[ref.id] = value
    return value


def _owners(provenance: Provenance, name: str, ref: Ref, buffer: bool) -> tuple[Factor, ...]:
    factors = []
    for dim, size in enumerate(ref.shape):
        if size > 1:
            shape = [1] * len(ref.shape)
            shape[dim] = size
            factors.append(Factor(provenance.slot(name, dim, size, buffer).reshape(shape), zero=not buffer))
    return tuple(factors)


def _replay_call(state: Replay, call: Call) -> None:
    def value_of(ref: Ref) -> Value:
        return _value(state, ref)

    args = replace_all(call.args, Ref, value_of)
    kwargs = {name: replace_all(argument, Ref, value_of) for name, argument in call.kwargs.items()}
    quantizing = id(call) in state.merging.branch_of
    where = state.merging.name(call) if quantizing else _name(state, call)
    shapes = tuple(ref.shape if ref is not None else () for ref in call.out)
    if not shapes:
        return
    step = Step(call.op, args, kwargs, shapes, where, state.provenance, call)
    values = state.merging.replay(step) if quantizing else apply(step)
    operands = step.operands
    from_data = any(v.sources for v in operands)
    if quantizing:
        values = _quantize(state, call, where, operands, values)
    elif from_data and not _silent(state, call):
        values = _add_node(state, call, where, operands, values)
    nonnegative = never_negative(step)
    values = tuple(v if v.nonnegative == nonnegative else replace(v, nonnegative=nonnegative) for v in values)
    for ref, value in zip(call.out, values, strict=True):
        if ref is not None:
            state.values[ref.id] = value
    for write in () if quantizing and quantizes(call) else call.writes:  # a quantizer's state is no data
        old, new = _value(state, write.before), _value(state, write.after) if write.after is not None else None
        for alias in write.aliases:
            before = _value(state, alias)
            after = overwritten(before, old, new, state.provenance, where)
            both = before.nonnegative and new is not None and new.nonnegative
            state.values[alias.id] = replace(after, nonnegative=both)


def _quantize(
    state: Replay, call: Call, where: str, operands: list[Value], values: tuple[Value, ...]
) -> tuple[Value, ...]:
    """An operation of a quantizer: a separate node, the node of the whole quantizer, or none."""
    from_data, silent = any(v.sources for v in operands), _silent(state, call)
    if state.merging.is_node(call, from_data) and not (silent and not state.merging.merge):
        return _add_node(state, call, where, operands, values)
    if not from_data:
        node, before = state.merging.weight_node(call, where, kind_of(call), silent)
        if node is not None:
            state.nodes.append(node)
            state.edges.extend((source, where) for source in before)
    return values


def _silent(state: Replay, call: Call) -> bool:
    """Operations not worth a node: bookkeeping, and the reshapes a linear layer does around its product."""
    inside_linear = state.recording.modules.get(call.module, "").endswith("Linear")
    return call.op in _SILENT or (inside_linear and call.op in ("aten.view", "aten._unsafe_view", "aten.expand"))


def _name(state: Replay, call: Call) -> str:
    """A readable id: the module's path where the module is a leaf, else path:op; repeats are numbered."""
    short = call.op.split(".")[1].strip("_")
    if call.module and call.module in state.recording.leaves:
        base = call.module
        if state.names[base] and KINDS.get(short) not in ("conv", "linear", "norm", "matmul"):
            base = f"{call.module}:{short}"
    else:
        base = f"{call.module}:{short}" if call.module else short
    return base if not state.names[base] else f"{base}#{state.names[base] + 1}"


def _add_node(
    state: Replay, call: Call, where: str, operands: list[Value], values: tuple[Value, ...]
) -> tuple[Value, ...]:
    state.names[where.split("#")[0]] += 1
    layer = state.layers.note(call, operands, values[0].shape)
    node = Node(where, call.op, kind_of(call), call.module, values[0].shape, layer)
    node, further = state.merging.annotate(call, node)
    state.nodes.append(node)
    for source in sorted({s for v in operands for s in v.sources}.union(further)):
        state.edges.append((source, where))
    for value in values:
        if value.factors:
            state.provenance.carried.append((where, value.all_atoms()))
    return tuple(Value(v.shape, v.factors, None, frozenset({where})) for v in values)


def _finish(state: Replay, frozen: set[str]) -> None:
    """Freeze what the output returns, what ``forward`` or a mode change overwrites, and what the user names."""
    outputs = [_value(state, ref) for ref in state.recording.outputs]
    if not outputs:
        raise CompressionError(
            f"forward() returns a {state.recording.returned} in which no tensor is found, so there is nothing to "
            "trace: let it return a tensor, or a tuple, list, dict or registered dataclass of tensors"
        )
    for index, value in enumerate(outputs):
        name = "output" if index == 0 else f"output#{index + 1}"
        state.nodes.append(Node(name, "output", "output", "", value.shape))
        state.edges.extend((source, name) for source in sorted(value.sources))
        state.provenance.freeze(value.all_atoms(), name, Code.next_to_output)
    for parameter, ref in state.recording.replaced.items():
        why = Reason(Code.parameter_replaced, {"parameter": parameter})
        state.provenance.freeze(_value(state, ref).all_atoms(), parameter, why)
        _freeze_parameter(state, parameter, why)
    for parameter in state.recording.switched:
        _freeze_parameter(state, parameter, Code.switched_with_mode)
    for parameter in state.recording.uncuttable:
        _freeze_parameter(state, parameter, Code.eight_bit_float)
    shared = {state.recording.shared[name] for name in frozen if name in state.recording.shared}
    unknown = frozen - set(state.recording.sizes) - set(state.recording.shared)
    if unknown:
        raise CompressionError(f"cannot freeze {sorted(unknown)[0]!r}: the model has no parameter of that name")
    for name in sorted(frozen):
        _freeze_parameter(state, name, Code.requested)
    for name in sorted(shared):
        _freeze_parameter(state, name, Code.shared_with_frozen)


def _freeze_parameter(state: Replay, name: str, why: Why) -> None:
    for slot in state.provenance.slots:
        if slot.name == name:
            state.provenance.freeze(np.arange(slot.start, slot.start + slot.size), name, why)
