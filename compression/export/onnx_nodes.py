"""Nodes of an ONNX graph that make a float weight of integers: dequantized, or looked up in a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def dequantized(
    graph: ir.Graph, value: ir.Value, codes: ir.Tensor, scale: NDArray[np.float32], axis: int | None
) -> None:
    """Put codes times ``scale`` (fp32 [], or [n] along ``axis``) in place of a weight."""
    name = str(value.name)
    zero = np.zeros(scale.shape, codes.dtype.numpy())
    parts = [
        initializer(graph, f"{name}.codes", codes),
        initializer(graph, f"{name}.scale", ir.Tensor(scale)),
        initializer(graph, f"{name}.zero", ir.Tensor(zero, dtype=codes.dtype)),
    ]
    attributes = {"axis": axis} if axis is not None else {}
    _replace(graph, value, [ir.node("DequantizeLinear", parts, attributes, name=f"{name}.dequantize")])


def looked_up(
    graph: ir.Graph,
    value: ir.Value,
    codes: ir.Tensor,
    table: NDArray[np.float32],
    scale: NDArray[np.float32],
    axis: int | None,
) -> None:
    """Put what stands at the codes' places in ``table`` (fp32 [n], negative ones from the end) in place of a weight.

    It is multiplied by ``scale``: fp32 [], or [n] along ``axis``.
    """
    name = str(value.name)
    entries = table if axis is not None else table * scale
    places = ir.node("Cast", [initializer(graph, f"{name}.codes", codes)], {"to": ir.DataType.INT32})
    found = ir.node("Gather", [initializer(graph, f"{name}.table", ir.Tensor(entries)), places.outputs[0]])
    nodes = [places, found]
    if axis is not None:
        shape = [-1 if dim == axis else 1 for dim in range(len(codes.shape))]
        factor = initializer(graph, f"{name}.scale", ir.Tensor(scale.reshape(shape)))
        nodes.append(ir.node("Mul", [found.outputs[0], factor]))
    for node in nodes:
        node.name = f"{name}.{node.op_type.lower()}"
        node.outputs[0].name = f"{node.name}d"
    _replace(graph, value, nodes)


def initializer(graph: ir.Graph, name: str, tensor: ir.Tensor) -> ir.Value:
    """A tensor stored in the graph, as a value to read."""
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _replace(graph: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Let everything that reads a stored weight read the last of these nodes, and drop the weight."""
    result = nodes[-1].outputs[0]
    result.name, result.type, result.shape = f"{value.name}.weight", ir.TensorType(ir.DataType.FLOAT), value.shape
    graph.insert_before(graph[0], list(nodes))
    ir.convenience.replace_all_uses_with(value, result)
    del graph.initializers[str(value.name)]
