"""What passes a scale on: positively homogeneous operations, moves of elements, and sums of what is scaled alike."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from compression.graph.flow import name_of, refs
from compression.graph.recording import Call, Ref, replace_all
from compression.posttraining.scale_flow import Result, ScaleFlow, Units, handles, placed


@handles("detach alias clone contiguous lift_fresh _to_copy positive dropout native_dropout")
def _same(flow: ScaleFlow, call: Call) -> Result:
    kind = call.kwargs.get("dtype")
    if kind is not None and not kind.is_floating_point:  # it rounds
        return None
    return (flow.units_of(call.args[0]),)


@handles("relu leaky_relu abs neg prelu _prelu_kernel")
def _homogeneous(flow: ScaleFlow, call: Call) -> Result:
    """f(s·x) = s·f(x) for every s > 0."""
    units = flow.units_of(call.args[0])
    flow.passed.append((name_of(call), units))
    return (units,)


@handles(
    """view _unsafe_view reshape unsqueeze squeeze permute transpose t expand repeat flip roll slice select split
    split_with_sizes unsafe_split unsafe_chunk unbind cat stack pixel_shuffle pixel_unshuffle channel_shuffle
    native_channel_shuffle"""
)
def _move(flow: ScaleFlow, call: Call) -> Result:
    """What only moves elements moves their atoms: the operation itself is run on them."""
    first = next(refs(call))
    name = flow.parameter(first)
    if name is not None and len(first.shape) == 2 and name_of(call) in ("t", "transpose"):
        assert call.out[0] is not None
        if first.id not in flow.turned:
            flow.claimed.add(first.id)
            flow.turned[call.out[0].id] = name
    if not any(flow.owned(ref) for ref in refs(call)):
        return ()

    def full(ref: Ref) -> Units:
        return flow.units_of(ref).expand(ref.shape).contiguous()

    args = [list(arg) if isinstance(arg, tuple) else arg for arg in replace_all(call.args, Ref, full)]
    moved = call.func(*args, **call.kwargs)
    results = tuple(_shrunk(each) for each in (moved if isinstance(moved, (tuple, list)) else (moved,)))
    flow.passed += [("move", each) for each in results]
    return results


def _shrunk(units: Units) -> Units:
    for dim, size in enumerate(units.shape):
        first = units.narrow(dim, 0, min(1, size))
        if size > 1 and torch.equal(units, first.expand_as(units)):
            units = first
    return units


@handles("constant_pad_nd")
def _pad(flow: ScaleFlow, call: Call) -> Result:
    """Zeros beside a tensor: along its channels they have any scale."""
    data, pads = call.args[0], list(call.args[1])
    if len(call.args) > 2 and call.args[2] != 0:
        return None
    units = flow.units_of(data)
    for place in range(len(pads) // 2):
        if units.shape[-1 - place] == 1 and data.shape[-1 - place] > 1:
            pads[2 * place : 2 * place + 2] = [0, 0]
    result = F.pad(units, pads, value=-1)
    empty = result < 0
    result[empty] = flow.fresh(int(empty.sum()))
    flow.passed.append(("pad", result))
    return (result,)


@handles("add sub")
def _add(flow: ScaleFlow, call: Call) -> Result:
    """A sum of scaled tensors is scaled where all of them are, alike."""
    if not all(isinstance(term, Ref) for term in call.args[:2]):
        return None
    first, second = (flow.units_of(term) for term in call.args[:2])
    flow.link(first, second)
    result = torch.maximum(*torch.broadcast_tensors(first, second))
    flow.passed.append(("add", result))
    return (result,)


@handles("mul div")
def _product(flow: ScaleFlow, call: Call) -> Result:
    """A product with what is not scaled; a vector times what is not scaled is a norm's affine part (RMS norms)."""
    terms = [term for term in call.args[:2] if isinstance(term, Ref)]
    scaled = [term for term in terms if flow.owned(term)]
    shape = call.out[0].shape if call.out[0] is not None else ()
    if len(scaled) > 1 or (name_of(call) == "div" and scaled and scaled[0] is not call.args[0]):
        return None
    if scaled:
        units = flow.units_of(scaled[0])
        result = units.reshape((1,) * (len(shape) - units.dim()) + units.shape)
        flow.passed.append(("mul", result))
        return (result,)
    vector = next((term for term in terms if len(term.shape) == 1 and shape and term.shape[0] == shape[-1]), None)
    if name_of(call) == "mul" and vector is not None and (name := flow.claim(vector, 1)) is not None:
        return (placed(flow.slot(name, "scale", vector.shape, (0,)).atoms, -1, len(shape)),)
    return ()


@handles("bmm")
def _batched_product(flow: ScaleFlow, call: Call) -> Result:
    """A mean over values weighed by what is not scaled (attention): channels that are not summed over stay."""
    left, right = call.args[:2]
    if flow.owned(left) and flow.owned(right):
        return None
    units, summed = (flow.units_of(left), 2) if flow.owned(left) else (flow.units_of(right), 1)
    flow.passed.append(("bmm", units))
    return (units,) if units.shape[summed] == 1 else None


@handles("mean sum amax amin")
def _reduce(flow: ScaleFlow, call: Call) -> Result:
    """Over axes along which one atom scales all."""
    data, units = call.args[0], flow.units_of(call.args[0])
    over = call.args[1] if len(call.args) > 1 and call.args[1] not in (None, ()) else range(units.dim())
    dims = {d % units.dim() for d in ([over] if isinstance(over, int) else over)}
    if any(units.shape[d] > 1 for d in dims):
        return None
    flow.passed.append((name_of(call), units))
    keeps = call.out[0] is not None and len(call.out[0].shape) == len(data.shape)
    return (units if keeps else units.squeeze(tuple(dims)),)


@handles(
    """max_pool1d max_pool2d_with_indices max_pool2d max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d
    adaptive_max_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_trilinear3d reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"""
)
def _spatial(flow: ScaleFlow, call: Call) -> Result:
    """Maxima and weighed means within a channel."""
    units, space = flow.units_of(call.args[0]), next(int(c) for c in call.op if c in "123")
    flow.passed.append((name_of(call), units))
    return (units,) if all(size == 1 for size in units.shape[-space:]) else None
