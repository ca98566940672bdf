"""Convolutions and matrix products: units are read along the contracted axis, and begin along the free ones."""

from __future__ import annotations

import numpy as np

from compression.graph.provenance import Array
from compression.graph.reasons import Code
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value, collapse, combine


@rule("aten.convolution", "aten.cudnn_convolution", "aten.mkldnn_convolution", "aten._convolution")
def convolution(step: Step) -> Value:
    """Convolution of any dimension: full, depthwise, grouped or transposed."""
    data, weight, bias = step.args[0], step.args[1], step.args[2]
    transposed, groups = bool(step.args[6]), int(step.args[8])
    if weight.origin is None:
        for value in (data, weight):
            step.provenance.freeze(value.all_atoms(), step.where, Code.computed_weight)
        return step.output()
    channels = data.shape[1]
    incoming = _only_along(step, data, 1)
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    if groups == 1:
        _read(step, incoming, _flat(step, weight, in_dim), channels)
        outgoing = _flat(step, weight, out_dim)
    else:
        outgoing = _grouped(step, incoming, weight, groups, transposed, channels)
    shifts = _flat(step, bias, 0) if bias is not None else None
    if shifts is not None and outgoing is not None:
        step.provenance.tie(shifts, outgoing, step.where, Code.bias_of_layer)
    if outgoing is None:
        return step.output()
    shape = [1] * len(step.shape)
    shape[1] = outgoing.size
    silent = _zero_along(weight, out_dim if groups == 1 or not transposed else 0)
    silent |= groups == channels and incoming is not None and incoming.zero  # a channel filtered by itself stays 0
    return step.output(Factor(outgoing.reshape(shape), silent and (bias is None or _zero_along(bias, 0))))


def _flat(step: Step, value: Value, dim: int) -> Array | None:
    """Atoms along one dimension of a parameter-like value; ``None`` for an axis of size 1."""
    owners: list[Factor] = []
    for factor in value.along(dim):
        if factor.dims == (dim,) and not owners:
            owners.append(factor)
        else:
            step.provenance.freeze(factor.atoms, step.where, Code.tangled_weight)
    return owners[0].atoms.ravel() if owners else None


def _zero_along(value: Value, dim: int) -> bool:
    """Whether a weight or bias is zero in the rows of a zeroed unit."""
    return bool(value.along(dim)) and all(factor.zero for factor in value.along(dim))


def _only_along(step: Step, value: Value, dim: int) -> Factor | None:
    """The factor of the channel axis; owners along any other axis of a convolution's input are pinned."""
    result = None
    for factor in value.factors:
        if dim in factor.dims:
            result = collapse(factor, (dim,), step.provenance, step.where, Code.read_together)
        else:
            step.provenance.freeze(factor.atoms, step.where, Code.convolved_along)
    return result


def _read(step: Step, incoming: Factor | None, columns: Array | None, size: int) -> None:
    """Tie the columns of the weight, along the contracted axis, to the units that they read."""
    if columns is not None:
        step.provenance.consumers.append(columns)
    if incoming is None:
        if columns is not None:
            step.provenance.freeze(columns, step.where, Code.reads_fixed_axis)
        return
    owners = incoming.atoms.ravel()
    if columns is None:
        step.provenance.freeze(owners, step.where, Code.no_columns)
        return
    step.provenance.tie(owners, columns, step.where, Code.read_by_next_layer)
    if not incoming.zero:
        step.provenance.blur(owners, step.where, Code.not_zero_where_read)


def _grouped(
    step: Step, incoming: Factor | None, weight: Value, groups: int, transposed: bool, channels: int
) -> Array | None:
    """Tie depthwise channels to their input channels; of other groups tie the same places in every group."""
    first, second = _flat(step, weight, 0), _flat(step, weight, 1)
    if groups == channels:  # depthwise: weight [C*m, 1, ...]; transposed: [C, m, ...]
        rows = first
        if rows is None:
            return None
        if transposed and second is not None:
            step.provenance.freeze(rows, step.where, Code.transposed_multiplier)
            return None
        if incoming is None:
            step.provenance.freeze(rows, step.where, Code.depthwise_fixed_axis)
        else:
            step.provenance.tie(np.repeat(incoming.atoms, rows.size // channels), rows, step.where, Code.depthwise)
        return rows
    inner, outer = (first, second) if transposed else (second, first)
    if transposed or inner is None or outer is None:
        for atoms in (first, second, incoming.atoms if incoming else None):
            if atoms is not None:
                step.provenance.freeze(atoms, step.where, Code.grouped_shape)
        return None if transposed else outer
    step.provenance.consumers.append(inner)
    blocks = outer.reshape(groups, -1)
    step.provenance.tie(blocks, blocks[:1], step.where, Code.grouped_convolution)
    if incoming is None:
        step.provenance.freeze(inner, step.where, Code.reads_fixed_axis)
    else:
        owners: Array = incoming.atoms.reshape(groups, -1)
        step.provenance.tie(owners, inner.reshape(1, -1), step.where, Code.grouped_convolution)
        if not incoming.zero:
            step.provenance.blur(owners, step.where, Code.not_zero_where_read)
    return outer


@rule("aten.mm", "aten.matmul", "aten.mv", "aten.dot")
def mm(step: Step) -> Value:
    """A matrix product of two dimensions."""
    return _product(step, step.args[0], step.args[1], None)


@rule("aten.addmm", "aten.baddbmm", "aten.addbmm")
def addmm(step: Step) -> Value:
    """A linear layer: bias + input @ weight."""
    return _product(step, step.args[1], step.args[2], step.args[0])


@rule("aten.linear")
def linear(step: Step) -> Value:
    """The undecomposed linear layer: weight [out, in]."""
    weight: Value = step.args[1]
    turned = Value(
        weight.shape[::-1],
        tuple(Factor(f.atoms.swapaxes(0, 1), f.zero) for f in weight.factors),
        weight.origin,
        weight.sources,
    )
    return _product(step, step.args[0], turned, step.arg(2, "bias"))


@rule("aten.bmm")
def bmm(step: Step) -> Value:
    """A batch of matrix products, as in attention: an owner along the batch axis is a head."""
    return _product(step, step.args[0], step.args[1], None)


def _product(step: Step, left: Value, right: Value, bias: Value | None) -> Value:
    inner_left, inner_right = len(left.shape) - 1, max(0, len(right.shape) - 2)
    ndim = len(step.shape)
    batch = tuple(range(ndim - 2)) if ndim > 2 and len(right.shape) > 2 else ()
    left_factors = [_by_head(step, f, batch) for f in left.factors]
    right_factors = [_by_head(step, f, batch) for f in right.factors]
    factors = _heads(step, [(left, left_factors), (right, right_factors)], batch)
    free_left = [f for f in left_factors if not set(f.dims) & set(batch)]
    free_right = [f for f in right_factors if not set(f.dims) & set(batch)]
    _contract(step, (left, free_left, inner_left), (right, free_right, inner_right))
    for factor in free_left:
        if inner_left not in factor.dims:
            factors.append(_placed(factor, ndim, range(len(left.shape) - 1)))
    for factor in free_right:
        if inner_right not in factor.dims:
            keep = factor.atoms.take(0, axis=inner_right) if len(right.shape) > 1 else factor.atoms
            factors.append(Factor(keep.reshape((1,) * (ndim - keep.ndim) + keep.shape), factor.zero))
    out = step.output(*factors)
    if bias is None or not bias.shape:
        return out
    ties = combine([out, bias], step.shape, step.provenance, step.where, Code.bias_of_layer)
    return step.output(*ties)


def _by_head(step: Step, factor: Factor, batch: tuple[int, ...]) -> Factor:
    """An owner that changes along a batch axis makes the whole slice one unit: a head."""
    if not set(factor.dims) & set(batch):
        return factor
    return collapse(factor, batch, step.provenance, step.where, Code.one_head)


def _heads(step: Step, operands: list[tuple[Value, list[Factor]]], batch: tuple[int, ...]) -> list[Factor]:
    """Both operands' heads become one unit; the product is zero where either is."""
    if not batch:
        return []
    sides = []
    for value, factors in operands:
        heads = tuple(f for f in factors if set(f.dims) & set(batch))
        shape = value.shape[: len(batch)] + (1, 1)
        sides.append(Value(shape, heads, value.origin, value.sources, value.constant))
    shape = step.shape[: len(batch)] + (1, 1)
    merged = combine(sides, shape, step.provenance, step.where, Code.same_head)
    zero = [any(f.zero and set(f.dims) & set(m.dims) for s in sides for f in s.factors) for m in merged]
    return [Factor(m.atoms, z) for m, z in zip(merged, zero, strict=True)]


def _contract(step: Step, left: tuple[Value, list[Factor], int], right: tuple[Value, list[Factor], int]) -> None:
    """Tie what is multiplied and summed away."""
    sides: list[Factor | None] = []
    for _value, factors, inner in (left, right):
        owners = [f for f in factors if inner in f.dims]
        for factor in owners[1:]:
            step.provenance.freeze(factor.atoms, step.where, Code.contracted_owners)
        together = Code.contracted_together
        sides.append(collapse(owners[0], (inner,), step.provenance, step.where, together) if owners else None)
    for side, (value, _, _) in zip(sides, (left, right), strict=True):
        if side is not None and value.weight_like:
            step.provenance.consumers.append(side.atoms.ravel())
    first, second = sides
    if first is None and second is None:
        return
    if first is None or second is None:
        only = first if first is not None else second
        assert only is not None
        step.provenance.freeze(only.atoms, step.where, Code.multiplied_with_fixed_axis)
        return
    step.provenance.tie(first.atoms.ravel(), second.atoms.ravel(), step.where, Code.read_by_next_layer)
    if left[0].weight_like and right[0].weight_like:
        step.provenance.require((first.atoms.ravel(), second.atoms.ravel()), True, step.where, Code.summed_not_zeroed)
    data = [f.zero for f, (v, _, _) in zip(sides, (left, right), strict=True) if f is not None and not v.weight_like]
    if data and not any(data):
        step.provenance.blur(first.atoms, step.where, Code.not_zero_where_read)


def _placed(factor: Factor, ndim: int, dims: range) -> Factor:
    """A left operand's free owners in the product's dimensions: the right operand replaces the last axis."""
    shape = [factor.atoms.shape[d] for d in dims] + [1] * (len(dims) < ndim)
    return Factor(factor.atoms.take(0, axis=factor.atoms.ndim - 1).reshape(shape[-ndim:]), factor.zero)
