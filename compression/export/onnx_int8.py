"""A file that computes in 8-bit integers: Q/DQ pairs where a run has floats, their ranges from training images.

Runtimes turn a convolution into integer arithmetic only with quantizers on both sides. Where the run learned none, the
range is what a few training images reach; that is no part of the run, so it is a file of its own, compared on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from compression.export.onnx_check import feed, session
from compression.export.onnx_model import OnnxModel, finished
from compression.graph.inputs import Example

LAYERS = {"Conv": 1, "Gemm": 1, "MatMul": 1}
CLOSED = ("Conv", "Gemm")  # quantized behind as well; a MatMul is followed by its bias in floats
AFTER = ("Relu", "Clip")
EIGHT_BITS = (ir.DataType.INT8, ir.DataType.UINT8)


def calibrated(exported: OnnxModel, images: Iterable[Example]) -> tuple[OnnxModel, int]:
    """The file with every quantizer that integer arithmetic needs, and how many were added.

    Args:
        exported: a file whose weights are int8 where they can be.
        images: batches of normalised training images, or of what else the network takes.
    """
    model = ir.from_proto(onnx.load_from_string(exported.data))
    values = list(places(model.graph))
    if not values:
        return exported, 0
    ranges = _ranges(exported.data, [str(value.name) for value in values], images)
    for value in values:
        _quantize(model.graph, value, *ranges[str(value.name)])
    return OnnxModel(finished(model), exported.weights, exported.activations), len(values)


def places(graph: ir.Graph) -> Iterator[ir.Value]:
    """The tensors to quantize: around layers with 8-bit weights, and around sums of what such layers give."""
    chosen: dict[str, ir.Value] = {}
    outputs = {id(value) for value in graph.outputs}
    for node in graph:
        if node.op_type in LAYERS and _integer_weight(node.inputs[LAYERS[node.op_type]]):
            candidates = [node.inputs[0], *([_behind(node)] if node.op_type in CLOSED else [])]
        elif node.op_type == "Add" and all(value is not None and _settled(value, chosen) for value in node.inputs):
            candidates = [_behind(node)]
        else:
            continue
        for value in candidates:
            if value is not None and id(value) not in outputs and not _quantized(value):
                chosen[str(value.name)] = value
    yield from chosen.values()


def _behind(node: ir.Node) -> ir.Value:
    """A layer's result, after the activation function that runtimes compute with it."""
    value = node.outputs[0]
    uses = list(value.uses())
    return uses[0][0].outputs[0] if len(uses) == 1 and uses[0][0].op_type in AFTER else value


def _integer_weight(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "DequantizeLinear":
        return False
    codes = producer.inputs[0]
    return codes is not None and codes.const_value is not None and codes.dtype in EIGHT_BITS


def _settled(value: ir.Value, chosen: dict[str, ir.Value]) -> bool:
    return str(value.name) in chosen or _quantized(value)


def _quantized(value: ir.Value) -> bool:
    """Whether it is quantized already: it comes out of a quantizer, or only quantizers read it."""
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        return True
    uses = [node.op_type for node, _ in value.uses()]
    return bool(uses) and all(kind == "QuantizeLinear" for kind in uses)


def _ranges(data: bytes, names: list[str], images: Iterable[Example]) -> dict[str, tuple[float, float]]:
    """Name → smallest and largest value over the images, zero included; only these two leave the runtime."""
    proto = onnx.load_from_string(data)
    del proto.graph.output[:]
    for index, name in enumerate(names):
        for kind in ("ReduceMin", "ReduceMax"):
            output = f"{kind}_{index}"
            proto.graph.node.append(onnx.helper.make_node(kind, [name], [output], keepdims=0))
            proto.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, []))
    runner = session(proto.SerializeToString(), torch.get_num_threads())
    seen = np.array([runner.run(None, feed(runner, batch)) for batch in images], dtype=np.float64)
    lows, highs = seen[:, 0::2].min(axis=0), seen[:, 1::2].max(axis=0)
    return {name: (min(0.0, low), max(0.0, high)) for name, low, high in zip(names, lows, highs, strict=True)}


def _quantize(graph: ir.Graph, value: ir.Value, low: float, high: float) -> None:
    """A pair behind ``value``, which all its readers but quantizers then read."""
    scale = np.float32(max((high - low) / 255, 1e-8))
    zero = np.array(round(-low / float(scale)), np.uint8)
    name = str(value.name)
    parts = [_constant(graph, f"{name}.scale", np.asarray(scale)), _constant(graph, f"{name}.zero", zero)]
    codes = ir.node("QuantizeLinear", [value, *parts], name=f"{name}.quantize")
    back = ir.node("DequantizeLinear", [codes.outputs[0], *parts], name=f"{name}.dequantize")
    codes.outputs[0].name, back.outputs[0].name = f"{name}.codes", f"{name}.quantized"
    for node, index in list(value.uses()):
        if node is not codes and node.op_type not in ("QuantizeLinear",):
            node.replace_input_with(index, back.outputs[0])
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], [codes, back])
    else:
        graph.insert_after(producer, [codes, back])


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    tensor = ir.Tensor(array)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
