"""A recording replayed on owners: what every tensor carries, and the nodes, edges and layers met on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from compression.errors import CompressionError
from compression.graph.flow import quantizes
from compression.graph.inputs import Inputs
from compression.graph.kinds import KINDS, kind_of
from compression.graph.layers import LayerTable
from compression.graph.live import live_calls
from compression.graph.merging import Merging, prepare
from compression.graph.provenance import Atoms
from compression.graph.reasons import Code, Reason, Why
from compression.graph.record import record
from compression.graph.recording import Call, Recording, Ref, replace_all
from compression.graph.rules import Step, apply
from compression.graph.types import Node
from compression.graph.values import Factor, Value, overwritten

_SILENT = frozenset({"aten.detach", "aten.alias", "aten.clone", "aten.t", "aten.empty", "aten.lift_fresh"})


@dataclass
class Walk:
    """A recording replayed on owners: what every value id carries, and the nodes, edges and layers found."""

    recording: Recording
    atoms: Atoms = field(default_factory=Atoms)
    values: dict[int, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    layers: LayerTable = field(default_factory=LayerTable)
    merging: Merging = field(default_factory=Merging)


def walk_through(
    model: nn.Module, inputs: Inputs, frozen: Iterable[str] = (),
    *, inexact: bool = False, merge: bool = True, on_values: bool = False,
) -> Walk:  # fmt: skip
    """Record one forward pass and replay it on owners (see :func:`trace`, and :func:`record` for ``on_values``)."""
    walk = Walk(record(model, inputs, on_values=on_values), Atoms(inexact))
    walk.recording.calls = live_calls(walk.recording)
    walk.merging = prepare(walk.recording, merge)
    walk.atoms.own = walk.merging.own
    _start(walk)
    for call in walk.recording.calls:
        _play(walk, call)
    _finish(walk, set(frozen))
    return walk


def _start(walk: Walk) -> None:
    for index, ref in enumerate(walk.recording.inputs):
        name = "input" if index == 0 else f"input#{index + 1}"
        walk.nodes.append(Node(name, "input", "input", "", ref.shape))
        walk.values[ref.id] = Value(ref.shape, sources=frozenset({name}))


def _value(walk: Walk, ref: Ref) -> Value:
    """What a tensor carries; a parameter or buffer gets its atoms when first met, so that slots stand in forward
    order.
    """
    found = walk.values.get(ref.id)
    if found is None:
        recording = walk.recording
        name = recording.parameters.get(ref.id) or recording.buffers.get(ref.id)
        if name is None:
            found = Value(ref.shape, constant=True)
        else:
            found = Value(ref.shape, _owners(walk.atoms, name, ref, ref.id in recording.buffers), origin=name)
        walk.values[ref.id] = found
    return found


def _owners(atoms: Atoms, name: str, ref: Ref, buffer: bool) -> tuple[Factor, ...]:
    factors = []
    for dim, size in enumerate(ref.shape):
        if size > 1:
            shape = [1] * len(ref.shape)
            shape[dim] = size
            factors.append(Factor(atoms.slot(name, dim, size, buffer).reshape(shape), zero=not buffer))
    return tuple(factors)


def _play(walk: Walk, call: Call) -> None:
    def seen(ref: Ref) -> Value:
        return _value(walk, ref)

    args = replace_all(call.args, Ref, seen)
    kwargs = {name: replace_all(argument, Ref, seen) for name, argument in call.kwargs.items()}
    quantizing = id(call) in walk.merging.of
    where = walk.merging.name(call) if quantizing else _name(walk, call)
    shapes = tuple(ref.shape if ref is not None else () for ref in call.out)
    if not shapes:
        return
    step = Step(call.op, args, kwargs, shapes, where, walk.atoms, call)
    values = walk.merging.play(step) if quantizing else apply(step)
    operands = step.operands
    from_data = any(v.sources for v in operands)
    if quantizing:
        values = _quantize(walk, call, where, operands, values)
    elif from_data and not _silent(walk, call):
        values = _add_node(walk, call, where, operands, values)
    for ref, value in zip(call.out, values, strict=True):
        if ref is not None:
            walk.values[ref.id] = value
    for write in () if quantizing and quantizes(call) else call.writes:  # a quantizer's state is no data
        old, new = _value(walk, write.before), _value(walk, write.after) if write.after is not None else None
        for alias in write.aliases:
            walk.values[alias.id] = overwritten(_value(walk, alias), old, new, walk.atoms, where)


def _quantize(
    walk: Walk, call: Call, where: str, operands: list[Value], values: tuple[Value, ...]
) -> tuple[Value, ...]:
    """An operation of a quantizer: a node of its own, the node of the whole quantizer, or none."""
    from_data, silent = any(v.sources for v in operands), _silent(walk, call)
    if walk.merging.is_node(call, from_data) and not (silent and not walk.merging.merge):
        return _add_node(walk, call, where, operands, values)
    if not from_data:
        node, before = walk.merging.weight_node(call, where, kind_of(call), silent)
        if node is not None:
            walk.nodes.append(node)
            walk.edges.extend((source, where) for source in before)
    return values


def _silent(walk: Walk, call: Call) -> bool:
    """Operations not worth a node: bookkeeping, and the reshapes a linear layer does around its product."""
    inside_linear = walk.recording.modules.get(call.module, "").endswith("Linear")
    return call.op in _SILENT or (inside_linear and call.op in ("aten.view", "aten._unsafe_view", "aten.expand"))


def _name(walk: Walk, call: Call) -> str:
    """A readable id: the module's path where the module is a leaf, else path:op; repeats are numbered."""
    short = call.op.split(".")[1].strip("_")
    if call.module and call.module in walk.recording.leaves:
        base = call.module
        if walk.names[base] and KINDS.get(short) not in ("conv", "linear", "norm", "matmul"):
            base = f"{call.module}:{short}"
    else:
        base = f"{call.module}:{short}" if call.module else short
    return base if not walk.names[base] else f"{base}#{walk.names[base] + 1}"


def _add_node(
    walk: Walk, call: Call, where: str, operands: list[Value], values: tuple[Value, ...]
) -> tuple[Value, ...]:
    walk.names[where.split("#")[0]] += 1
    layer = walk.layers.note(call, operands, values[0].shape)
    node, further = walk.merging.dress(call, Node(where, call.op, kind_of(call), call.module, values[0].shape, layer))
    walk.nodes.append(node)
    for source in sorted({s for v in operands for s in v.sources}.union(further)):
        walk.edges.append((source, where))
    for value in values:
        if value.factors:
            walk.atoms.carried.append((where, value.all_atoms()))
    return tuple(Value(v.shape, v.factors, None, frozenset({where})) for v in values)


def _finish(walk: Walk, frozen: set[str]) -> None:
    """Freeze what the output and the user hold."""
    outputs = [_value(walk, ref) for ref in walk.recording.outputs]
    if not outputs:
        raise CompressionError(
            f"forward() returns a {walk.recording.returned} in which no tensor is found, so there is nothing to trace: "
            "let it return a tensor, or a tuple, list, dict or registered dataclass of tensors"
        )
    for index, value in enumerate(outputs):
        name = "output" if index == 0 else f"output#{index + 1}"
        walk.nodes.append(Node(name, "output", "output", "", value.shape))
        walk.edges.extend((source, name) for source in sorted(value.sources))
        walk.atoms.freeze(value.all_atoms(), name, Code.next_to_output)
    for parameter, ref in walk.recording.replaced.items():
        why = Reason(Code.parameter_replaced, {"parameter": parameter})
        walk.atoms.freeze(_value(walk, ref).all_atoms(), parameter, why)
        _freeze_parameter(walk, parameter, why)
    for parameter in walk.recording.switched:
        _freeze_parameter(walk, parameter, Code.switched_with_mode)
    for parameter in walk.recording.uncuttable:
        _freeze_parameter(walk, parameter, Code.eight_bit_float)
    shared = {walk.recording.shared[name] for name in frozen if name in walk.recording.shared}
    unknown = frozen - set(walk.recording.sizes) - set(walk.recording.shared)
    if unknown:
        raise CompressionError(f"cannot freeze {sorted(unknown)[0]!r}: the model has no parameter of that name")
    for name in sorted(frozen):
        _freeze_parameter(walk, name, Code.requested)
    for name in sorted(shared):
        _freeze_parameter(walk, name, Code.shared_with_frozen)


def _freeze_parameter(walk: Walk, name: str, why: Why) -> None:
    for slot in walk.atoms.slots:
        if slot.name == name:
            walk.atoms.freeze(np.arange(slot.start, slot.start + slot.size), name, why)
