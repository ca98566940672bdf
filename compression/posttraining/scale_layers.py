"""What begins and ends a scale: layers with their rows and columns, norms with their affine part and statistics."""

from __future__ import annotations

import torch

from compression.graph.flow import name_of
from compression.graph.recording import Call, Ref
from compression.posttraining.scale_flow import FIXED, Result, ScaleFlow, Slot, Units, along, handles, placed


def _read(flow: ScaleFlow, data: Ref, dim: int, column: Slot) -> None:
    """The columns of a layer divide by what scales their input; fixed where that is not one atom a column."""
    atoms = along(flow.units_of(data), dim)
    if atoms is None:
        flow.fix(data)
    flow.link(column.atoms, torch.tensor(FIXED) if atoms is None else atoms)


def _begin(flow: ScaleFlow, row: Slot, bias: object) -> Units:
    """The atoms of a layer's output; its bias is scaled with its rows."""
    if bias is not None:
        name = flow.claim(bias, 1)
        shift = None if name is None else flow.slot(name, "bias", (row.size,), (0,))
        flow.link(row.atoms, torch.tensor(FIXED) if shift is None else shift.atoms)
    return row.atoms


@handles("convolution cudnn_convolution mkldnn_convolution")
def _convolution(flow: ScaleFlow, call: Call) -> Result:
    """Of any dimension, grouped, depthwise or transposed: the weight [g, rows / g, columns / g, …] of g groups."""
    data, weight, bias = call.args[:3]
    ndim = len(weight.shape)
    name = flow.claim(weight, ndim)
    if name is None or len(data.shape) != ndim:
        return None
    transposed, groups = bool(call.args[6]), int(call.args[8])
    view = (groups, weight.shape[0] // groups, *weight.shape[1:])
    row, column = ((0, 2), (0, 1)) if transposed else ((0, 1), (0, 2))
    _read(flow, data, 1, flow.slot(name, "column", view, column))
    return (placed(_begin(flow, flow.slot(name, "row", view, row), bias), 1, ndim),)


@handles("mm addmm linear")
def _linear(flow: ScaleFlow, call: Call) -> Result:
    """input [.., columns] times a matrix, which a linear layer stores transposed as [rows, columns]."""
    kind = name_of(call)
    bias, data, weight = call.args[:3] if kind == "addmm" else (None, *call.args[:2])
    if kind == "linear" and len(call.args) > 2:
        bias = call.args[2]
    name = flow.claim(weight, 2)
    if name is None or flow.parameter(data) is not None:
        return None
    stored_by_rows = (weight.id in flow.turned) != (kind == "linear")
    shape = tuple(weight.shape[::-1]) if weight.id in flow.turned else tuple(weight.shape)
    row, column = (0, 1) if stored_by_rows else (1, 0)
    _read(flow, data, -1, flow.slot(name, "column", shape, (column,)))
    atoms = _begin(flow, flow.slot(name, "row", shape, (row,)), bias)
    return (placed(atoms, -1, len(data.shape)),)


@handles("native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm _batch_norm_no_update")
def _batch_norm(flow: ScaleFlow, call: Call) -> Result:
    """Its statistics take in any scale of its input; the output begins a scale of its own."""
    data, weight, bias, mean, var = call.args[:5]
    in_training = isinstance(call.args[5], bool) and call.args[5]
    buffers = flow.recording.buffers
    if in_training or not all(isinstance(each, Ref) and each.id in buffers for each in (mean, var)):
        return None
    scale, shift = flow.claim(weight, 1), flow.claim(bias, 1)
    if scale is None or shift is None:
        return None
    eps = float(next(number for number in reversed(call.args) if isinstance(number, float)))
    statistics = flow.slot(buffers[mean.id], "statistics", mean.shape, (0,), eps)
    _read(flow, data, 1, statistics)
    return (placed(_affine(flow, scale, shift, weight.shape), 1, len(data.shape)),)


def _affine(flow: ScaleFlow, scale: str, shift: str | None, shape: tuple[int, ...]) -> Units:
    atoms = flow.slot(scale, "scale", shape, (0,)).atoms
    if shift is not None:
        flow.link(atoms, flow.slot(shift, "shift", shape, (0,)).atoms)
    return atoms


@handles("native_layer_norm layer_norm native_group_norm")
def _norm_over_channels(flow: ScaleFlow, call: Call) -> Result:
    """It reads its channels together, so that the scale of its input ends; its affine part begins another one."""
    by_group = "group" in call.op
    data, weight, bias = call.args[0], *(call.args[1:3] if by_group else call.args[2:4])
    scale, shift = flow.claim(weight, 1), flow.claim(bias, 1)
    if scale is None or (bias is not None and shift is None):
        return None
    flow.fix(data)
    return (placed(_affine(flow, scale, shift, weight.shape), 1 if by_group else -1, len(data.shape)),)
