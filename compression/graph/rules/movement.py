"""Operations that only move elements: owners move with them, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from compression.graph.provenance import Array
from compression.graph.reasons import Code
from compression.graph.rules.registry import Step, rule
from compression.graph.values import Factor, Value, expand_dims, shrink


def _moved(step: Step, move: Any) -> Value:
    """Apply ``move`` to every factor's atoms."""
    source: Value = step.args[0]
    return step.output(*(Factor(move(f.atoms), f.zero) for f in source.factors))


def axis_of(dim: int, ndim: int) -> int:
    return dim + ndim if dim < 0 else dim


@rule("aten.view", "aten._unsafe_view", "aten.reshape", "aten._reshape_alias", "aten.flatten", "aten.unflatten",
      "aten.unsqueeze", "aten.squeeze")  # fmt: skip
def view(step: Step) -> Value:
    """Any reshape: merged axes repeat their owners, split axes must stay boxes."""
    source: Value = step.args[0]
    blocks = reshape_blocks(source.shape, step.shape)
    if blocks is None:
        step.provenance.freeze(source.all_atoms(), step.where, Code.reshaped_to_empty)
        return step.output()
    factors = [Factor(_reshape(step, f.atoms, source.shape, blocks), f.zero) for f in source.factors]
    return step.output(*factors)


def reshape_blocks(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Which old axes become which new ones: the finest runs of equal product. ``None`` when a size is 0."""
    if 0 in old or 0 in new:
        return None
    blocks, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        left, right = [i] if i < len(old) else [], [j] if j < len(new) else []
        a, b = (old[i] if left else 1), (new[j] if right else 1)
        i, j = i + len(left), j + len(right)
        while a != b:
            if a < b:
                a, left, i = a * old[i], [*left, i], i + 1
            else:
                b, right, j = b * new[j], [*right, j], j + 1
        blocks.append((tuple(left), tuple(right)))
    return blocks


def _reshape(
    step: Step, atoms: Array, old: tuple[int, ...], blocks: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> Array:
    shape: list[int] = []
    full, split = atoms, False
    for left, right in blocks:
        owned = any(atoms.shape[d] > 1 for d in left)
        if owned:
            full = expand_dims(full, old, left)
        shape += [step.shape[d] if owned else 1 for d in right]
        if owned and sum(step.shape[d] > 1 for d in right) > 1:
            _note_box(step, atoms, left, tuple(step.shape[d] for d in right), old)
            split = True
    moved = np.ascontiguousarray(full).reshape(shape)
    return shrink(moved) if split else moved


def _note_box(step: Step, atoms: Array, dims: tuple[int, ...], box: tuple[int, ...], old: tuple[int, ...]) -> None:
    """A split axis: remember its new box (of a factor that changes along these axes alone, else of its first slice)."""
    inside = atoms
    for d in range(atoms.ndim):
        if d not in dims and inside.shape[d] > 1:
            inside = inside.take([0], axis=d)
    step.provenance.rectangles.append(np.ascontiguousarray(expand_dims(inside, old, dims)).reshape(box))


@rule("aten.permute")
def permute(step: Step) -> Value:
    order = [axis_of(d, len(step.shape)) for d in step.arg(1, "dims")]
    return _moved(step, lambda a: a.transpose(order))


@rule("aten.transpose", "aten.t", "aten.swapaxes", "aten.numpy_T")
def transpose(step: Step) -> Value:
    ndim = len(step.args[0].shape)
    if ndim < 2:
        return _moved(step, lambda a: a)
    first, second = (0, 1) if step.op != "aten.transpose" else (step.args[1], step.args[2])
    return _moved(step, lambda a: a.swapaxes(axis_of(first, ndim), axis_of(second, ndim)))


@rule("aten.expand", "aten.expand_as", "aten.broadcast_to")
def expand(step: Step) -> Value:
    extra = len(step.shape) - len(step.args[0].shape)
    return _moved(step, lambda a: a.reshape((1,) * extra + a.shape))


@rule("aten.repeat", "aten.tile")
def repeat(step: Step) -> Value:
    times = step.arg(1, "repeats")

    def move(a: Array) -> Array:
        a = a.reshape((1,) * (len(times) - a.ndim) + a.shape)
        return np.tile(a, [n if size > 1 else 1 for n, size in zip(times, a.shape, strict=True)])

    return _moved(step, move)


@rule("aten.flip", "aten.roll")
def reorder(step: Step) -> Value:
    """Flipping or rolling an axis moves its owners along."""
    if step.op == "aten.flip":
        return _moved(step, lambda a: np.flip(a, step.arg(1, "dims")))
    dims = step.arg(2, "dims") or ((0,) if len(step.shape) == 1 else ())
    if not dims:
        step.provenance.freeze(step.args[0].all_atoms(), step.where, Code.rolled_flat)
        return step.output()
    return _moved(step, lambda a: np.roll(a, tuple(step.arg(1, "shifts")), tuple(dims)))


@rule("aten.pixel_shuffle")
def pixel_shuffle(step: Step) -> Value:
    """Blocks of r*r channels become space; the channels of a block are tied."""
    source: Value = step.args[0]
    r = step.args[1]
    factors = []
    for factor in source.factors:
        if factor.dims != (len(source.shape) - 3,):
            step.provenance.freeze(factor.atoms, step.where, Code.spatial_shuffle)
            continue
        blocks = factor.atoms.reshape(-1, r * r)
        step.provenance.tie(blocks, blocks[:, :1], step.where, Code.pixel_shuffle_block)
        shape = [1] * len(source.shape)
        shape[-3] = len(blocks)
        factors.append(Factor(blocks[:, 0].reshape(shape), factor.zero))
    return step.output(*factors)


@rule("aten.pixel_unshuffle")
def pixel_unshuffle(step: Step) -> Value:
    """Space becomes blocks of r*r channels, owned by the channel they come from."""
    source: Value = step.args[0]
    channel, r = len(source.shape) - 3, step.args[1]
    factors = [step.keep(f, range(channel + 1, len(source.shape)), Code.spatial_unshuffle) for f in source.factors]
    return step.output(
        *(Factor(f.atoms.repeat(r * r, channel) if channel in f.dims else f.atoms, f.zero) for f in factors if f)
    )


@rule("aten.channel_shuffle", "aten.native_channel_shuffle")
def channel_shuffle(step: Step) -> Value:
    """The channels of g groups interleaved: the same places in every group are tied."""
    source: Value = step.args[0]
    factors = []
    for factor in source.factors:
        atoms = factor.atoms
        if atoms.shape[1] > 1:
            groups = np.moveaxis(atoms, 1, 0).reshape(step.args[1], atoms.shape[1] // step.args[1], -1)
            step.provenance.tie(groups, groups[:1], step.where, Code.channel_shuffle)
            order = np.arange(atoms.shape[1]).reshape(step.args[1], -1).T.ravel()
            atoms = atoms.take(order, axis=1)
        factors.append(Factor(atoms, factor.zero))
    return step.output(*factors)


@rule("aten.unfold")
def windows(step: Step) -> Value:
    """Windows along one axis: owners there are pinned, the others stay."""
    source: Value = step.args[0]
    dim = axis_of(step.args[1], len(source.shape))
    factors = [step.keep(factor, [dim], Code.overlapping_windows) for factor in source.factors]
    return step.output(*(Factor(f.atoms[..., None], f.zero) for f in factors if f is not None))


@rule("aten.im2col")
def patches(step: Step) -> Value:
    """Patches of an image, [N, C, H, W] to [N, C x patch, places]: each channel owns its stretch."""
    source: Value = step.args[0]
    size = step.shape[1] // source.shape[1]
    factors = [step.keep(factor, [2, 3], Code.overlapping_windows) for factor in source.factors]
    return step.output(*(Factor(_patch(f.atoms, size), f.zero) for f in factors if f is not None))


def _patch(atoms: Array, size: int) -> Array:
    return (atoms.repeat(size, axis=1) if atoms.shape[1] > 1 else atoms)[..., 0]


@rule("aten.col2im")
def from_patches(step: Step) -> Value:
    """The inverse, [N, C x patch, places] to [N, C, H, W]: the rows that form one channel are tied."""
    source: Value = step.args[0]
    channels = step.shape[1]
    factors = []
    for factor in source.factors:
        outside = step.keep(factor, [2], Code.overlapping_windows)
        if outside is not None and outside.atoms.shape[1] > 1:
            rows = outside.atoms.reshape(len(outside.atoms), channels, -1)
            step.provenance.tie(rows, rows[..., :1], step.where, Code.added_up_to_channel)
            factors.append(Factor(rows[..., :1, None], outside.zero))
        elif outside is not None:
            factors.append(Factor(outside.atoms[..., None], outside.zero))
    return step.output(*factors)
