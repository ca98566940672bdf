"""Operations that slice, split, concatenate, pad or index axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compression.graph.provenance import FIXED, Array
from compression.graph.reasons import Code, Reason
from compression.graph.rules.movement import axis_of
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value, combine, is_fixed


@rule("aten.slice", "aten.select", "aten.narrow")
def slice_axis(step: Step) -> Value:
    """A part of an axis: equal blocks are tied position by position (a chunk stays a chunk), others pin the axis."""
    source: Value = step.args[0]
    dim = axis_of(step.arg(1, "dim", 0), len(source.shape))
    size = source.shape[dim]
    if step.op == "aten.select":
        start, length, stride = step.args[2] % size, 1, 1
    else:
        start, length, stride = _range(step, size, dim)
    factors = []
    for factor in source.factors:
        block: Factor | None = factor
        if factor.atoms.shape[dim] > 1 and length < size:
            block = _keep_blocks(step, factor, dim, start, length, stride)
        if block is None:
            continue
        atoms = block.atoms
        if atoms.shape[dim] > 1 and length < size:
            atoms = atoms.take(range(start, start + length * stride, stride), axis=dim)
        if step.op == "aten.select":
            atoms = atoms.take([0], axis=dim).squeeze(dim)
        factors.append(Factor(atoms, factor.zero))
    return step.output(*factors)


def _range(step: Step, size: int, dim: int) -> tuple[int, int, int]:
    start = step.arg(2, "start") or 0
    start = max(0, start + size if start < 0 else start)
    stride = step.arg(4, "step", 1) if step.op == "aten.slice" else 1
    return start, step.shape[dim], stride


def _keep_blocks(step: Step, factor: Factor, dim: int, start: int, length: int, stride: int) -> Factor | None:
    size = factor.atoms.shape[dim]
    if not length or stride != 1 or size % length or start % length:
        return step.keep(factor, [dim], Code.fixed_slice)
    _tie_blocks(step, factor, dim, length)
    return factor


def _tie_blocks(step: Step, factor: Factor, dim: int, length: int) -> None:
    blocks = np.moveaxis(factor.atoms, dim, 0).reshape(factor.atoms.shape[dim] // length, -1)
    step.provenance.tie(blocks, blocks[:1], step.where, Code.equal_parts)


@rule("aten.split", "aten.split_with_sizes", "aten.chunk", "aten.unbind", "aten.unsafe_split", "aten.unsafe_chunk")
def split(step: Step) -> tuple[Value, ...]:
    """All parts of an axis at once; equal parts are tied position by position, unequal ones pin it."""
    source: Value = step.args[0]
    unbind = step.op == "aten.unbind"
    dim = axis_of(step.arg(1, "dim", 0) if unbind else step.arg(2, "dim", 0), len(source.shape))
    sizes = [1] * len(step.shapes) if unbind else [shape[dim] for shape in step.shapes]
    outputs = []
    whole = []
    for factor in source.factors:
        block: Factor | None = factor
        if factor.atoms.shape[dim] > 1 and len(set(sizes)) == 1 and sizes[0]:
            _tie_blocks(step, factor, dim, sizes[0])
        elif factor.atoms.shape[dim] > 1 and len(sizes) > 1:
            block = step.keep(factor, [dim], Code.unequal_parts)
        whole += [block] if block is not None else []
    start = 0
    for index, size in enumerate(sizes):
        factors = []
        for factor in whole:
            atoms = factor.atoms
            if atoms.shape[dim] > 1:
                atoms = atoms.take(range(start, start + size), axis=dim)
            factors.append(Factor(atoms.squeeze(dim) if unbind else atoms, factor.zero))
        outputs.append(step.output(*factors, index=index))
        start += size
    return tuple(outputs)


@rule("aten.cat", "aten.concat", "aten.stack")
def cat(step: Step) -> Value:
    """Owners along the joined axis are concatenated; along the others they are tied as in a sum."""
    parts: list[Value] = [v for v in step.args[0] if v.shape != (0,)]
    dim = axis_of(step.arg(1, "dim", 0), len(step.shape))
    if step.op == "aten.stack":
        parts = [_unsqueezed(v, dim) for v in parts]
    if not all(v.along(dim) for v in parts):
        parts = [_whole_boxes(step, v, dim) for v in parts]
    joined = [_owner_along(v, dim, step) for v in parts]
    factors = []
    if any(not is_fixed(f.atoms) for f in joined):
        zero = all(f.zero for f in joined if not is_fixed(f.atoms))
        factors.append(Factor(_side_by_side(step, [f.atoms for f in joined], dim), zero))
    others = [_without(v, dim) for v in parts]
    shape = tuple(1 if d == dim else size for d, size in enumerate(step.shape))
    factors += combine(others, shape, step.provenance, step.where, Code.concatenated_side_by_side)
    return step.output(*factors)


def _side_by_side(step: Step, joined: list[Array], dim: int) -> Array:
    """Owners one after another; parts of a split axis (heads x width) must stay a box in the whole."""
    sides = {d for atoms in joined for d, size in enumerate(atoms.shape) if size > 1 and d != dim}
    shape = tuple(size if d in sides else 1 for d, size in enumerate(step.shape))
    full = [np.broadcast_to(a, (*shape[:dim], a.shape[dim], *shape[dim + 1 :])) for a in joined]
    whole = np.ascontiguousarray(np.concatenate(full, axis=dim))
    if sides:
        step.provenance.rectangles.append(whole)
    return whole


def _whole_boxes(step: Step, value: Value, dim: int) -> Value:
    """Where a part has no owners along the joined axis, boxes (heads x width) keep their other sides only."""
    factors = [step.keep(f, [dim], Code.meets_fixed_axis) if len(f.dims) > 1 else f for f in value.factors]
    return replace(value, factors=tuple(f for f in factors if f is not None))


def _unsqueezed(value: Value, dim: int) -> Value:
    factors = tuple(Factor(np.expand_dims(f.atoms, dim), f.zero) for f in value.factors)
    return Value(value.shape[:dim] + (1,) + value.shape[dim:], factors, value.origin, value.sources, value.constant)


def _without(value: Value, dim: int) -> Value:
    """The value seen from the side of the joined axis: its other owners, that axis at size 1."""
    shape = value.shape[:dim] + (1,) + value.shape[dim + 1 :]
    factors = tuple(f for f in value.factors if f.atoms.shape[dim] == 1)
    return Value(shape, factors, value.origin, value.sources, value.constant)


def _owner_along(value: Value, dim: int, step: Step) -> Factor:
    size = value.shape[dim]
    nothing = np.full([size if d == dim else 1 for d in range(len(value.shape))], FIXED, dtype=np.int64)
    if size == 1:
        # a part of size 1 without owners along this axis, or a parameter's only row
        return Factor(nothing)
    owners = value.along(dim)
    for factor in owners[1:]:
        step.provenance.freeze(factor.atoms, step.where, Code.joined_owners)
    return owners[0] if owners else Factor(nothing)


@rule("aten.constant_pad_nd", "aten.pad")
def pad(step: Step) -> Value:
    """Padding adds positions without owners; an axis with owners that is padded cannot be cut."""
    source: Value = step.args[0]
    amounts = list(step.arg(1, "pad"))
    widths = [(0, 0)] * len(source.shape)
    for i in range(len(amounts) // 2):
        widths[-1 - i] = (amounts[2 * i], amounts[2 * i + 1])
    factors = []
    for factor in source.factors:
        atoms = factor.atoms
        for dim in factor.dims:
            before, after = widths[dim]
            if before or after:
                step.provenance.freeze(atoms, step.where, Code.padded)
            if before < 0 or after < 0:
                atoms = atoms.take(range(max(0, -before), atoms.shape[dim] + min(0, after)), axis=dim)
            grown = [(max(0, before), max(0, after)) if d == dim else (0, 0) for d in range(atoms.ndim)]
            atoms = np.pad(atoms, grown, constant_values=FIXED)
        factors.append(Factor(atoms, factor.zero and not step.arg(2, "value", 0)))
    return step.output(*factors)


@rule("aten.index_select", "aten.index", "aten._unsafe_index", "aten.embedding")
def index(step: Step) -> Value:
    """Picking by index: axes that are not indexed keep their owners; an indexed axis with owners is pinned."""
    source: Value = step.args[0]
    if step.op in ("aten.index", "aten._unsafe_index"):
        picked = [d for d, indices in enumerate(step.args[1]) if indices is not None]
        indices = [v for v in step.args[1] if v is not None]
    else:
        picked = [0 if step.op == "aten.embedding" else axis_of(step.args[1], len(source.shape))]
        indices = [step.args[1] if step.op == "aten.embedding" else step.args[2]]
    ndim = max((len(v.shape) for v in indices), default=0)
    if len(source.shape) - len(picked) + ndim != len(step.shape):  # a mask over several axes
        step.provenance.freeze(source.all_atoms(), step.where, Code.picked_by_mask)
        return step.output()
    together = picked == list(range(picked[0], picked[-1] + 1)) if picked else True
    at = picked[0] if together and picked else 0
    factors = []
    for value in indices:
        step.provenance.freeze(value.all_atoms(), step.where, Code.used_as_index)
    for whole in source.factors:
        factor = step.keep(whole, picked, Code.picked_by_index)
        if factor is None:
            continue
        rest = [size for d, size in enumerate(factor.atoms.shape) if d not in picked]
        factors.append(Factor(factor.atoms.reshape(rest[:at] + [1] * ndim + rest[at:]), factor.zero))
    return step.output(*factors)


@rule("aten.gather", "aten.scatter", "aten.scatter_add", "aten.scatter_reduce", "aten.index_put",
      "aten._index_put_impl", "aten.index_add", "aten.index_copy", "aten.index_fill", "aten.masked_select",
      "aten.masked_scatter", "aten.slice_scatter", "aten.select_scatter", "aten.take")  # fmt: skip
def gather_scatter(step: Step) -> Value:
    """Reading or writing at positions given by another tensor pins every axis that has an owner."""
    for value in step.operands:
        step.provenance.freeze(value.all_atoms(), step.where, Reason(Code.by_index, {"name": step.name}))
    return step.output()


@rule("aten.glu")
def glu(step: Step) -> Value:
    """The first half times the sigmoid of the second: both are tied, and zero where the first is."""
    source: Value = step.args[0]
    dim = axis_of(step.arg(1, "dim", -1), len(source.shape))
    half = source.shape[dim] // 2
    factors = []
    for factor in source.factors:
        atoms = factor.atoms
        if atoms.shape[dim] > 1:
            _tie_blocks(step, factor, dim, half)
            atoms = atoms.take(range(half), axis=dim)
        factors.append(Factor(atoms, factor.zero))
    return step.output(*factors)
