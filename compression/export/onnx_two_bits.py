"""Two bits in ONNX: int2 came with opset 25, and whether the installed packages support it is tried, not assumed.

A file of opset 25 needs a runtime that reads it, so only files that hold such weights are raised to it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from compression.errors import CompressionError
from compression.export.onnx_check import session

OPSET = 25
PRODUCT = "MatMul"
NO_PRODUCTS = "ONNX Runtime multiplies wrongly by int2 where the rows of a matrix are no multiple of four"
_NEEDS = (("onnx", onnx.TensorProto, "INT2"), ("onnx-ir", ir.DataType, "INT2"), ("ml_dtypes", ml_dtypes, "int2"))


@lru_cache(maxsize=1)
def missing() -> str:
    """What prevents int2 here, as a clause; empty where nothing does."""
    for package, holder, name in _NEEDS:
        if not hasattr(holder, name):
            return f"{package} {version(package)} has no such type"
    try:
        result = session(_convolution()).run(None, {"x": np.ones((1, 2, 1, 1), np.float32)})[0]
    except CompressionError:
        return f"ONNX Runtime {onnxruntime.__version__} does not run int2"
    right = np.array_equal(result.reshape(-1), [0.5, -0.5, 1.0])
    return "" if right else f"ONNX Runtime {onnxruntime.__version__} computes wrongly with int2"


def kind() -> tuple[ir.DataType, type]:
    """The type, and its numpy twin."""
    return ir.DataType.INT2, ml_dtypes.int2


def raised(data: bytes) -> bytes:
    """The same ONNX file in the first opset with int2."""
    model = onnx.version_converter.convert_version(onnx.load_from_string(data), OPSET)
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
    return bytes(model.SerializeToString())


def _convolution() -> bytes:
    """Three filters of two int2 weights each, times a half."""
    helper = onnx.helper
    weights = np.array([[1, 0], [-1, 0], [1, 1]], ml_dtypes.int2).reshape(3, 2, 1, 1)
    initializers = [
        ir.to_proto(ir.Tensor(weights, name="codes")),
        ir.to_proto(ir.Tensor(np.array(0.5, "f4"), name="step")),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "step"], ["weight"]),
        helper.make_node("Conv", ["x", "weight"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 1, 1])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 1, 1])
    graph = helper.make_graph(nodes, "tried", [x], [y], initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
    return bytes(model.SerializeToString())
