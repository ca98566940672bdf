"""Nodes of an ONNX graph that make a float weight of integers: dequantized, or as an encoding expands its codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from compression.encodings.onnx_form import Nodes

Expand = Callable[[Nodes, Any], Any]


class WeightNodes:
    """Nodes under the name of one weight (:class:`compression.encodings.onnx_form.Nodes`), collected in order."""

    def __init__(self, graph: ir.Graph, weight: str) -> None:
        self._graph, self._weight = graph, weight
        self.nodes: list[ir.Node] = []

    def constant(self, name: str, array: NDArray[Any], like: ir.Value | None = None) -> ir.Value:
        """An array stored in the graph, as a value to read; in the type of the value ``like``, if there is one."""
        kind = None if like is None else like.dtype
        typed = np.ascontiguousarray(array if kind is None else array.astype(kind.numpy()))
        return initializer(self._graph, f"{self._weight}.{name}", ir.Tensor(typed, dtype=kind))

    def node(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """A node of one output; attributes that are types of numpy become those of ONNX."""
        types = {k: ir.DataType.from_numpy(np.dtype(v)) for k, v in attributes.items() if isinstance(v, type)}
        count = sum(node.op_type == op_type for node in self.nodes)
        name = f"{self._weight}.{op_type.lower()}{count or ''}"
        node = ir.node(op_type, list(inputs), {**attributes, **types}, name=name)
        node.outputs[0].name = f"{name}d"
        self.nodes.append(node)
        return node.outputs[0]


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


def expanded(
    graph: ir.Graph, value: ir.Value, codes: ir.Tensor, expand: Expand, turned: bool, scale: NDArray[np.float32] | None
) -> None:
    """Put what an encoding makes of its codes in place of a weight: ``turned``, then times ``scale`` (broadcasts)."""
    nodes = WeightNodes(graph, str(value.name))
    result = expand(nodes, initializer(graph, f"{value.name}.codes", codes))
    if turned:
        result = nodes.node("Transpose", result)
    if scale is not None:
        nodes.node("Mul", result, nodes.constant("scale", scale))
    _replace(graph, value, nodes.nodes)


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
