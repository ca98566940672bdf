"""Export of other architectures: rebuilt transformers, pooling between quantizers, calibrated 8-bit arithmetic."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from compression import zoo
from compression.encodings import cut_weights
from compression.export import program
from compression.export.config import activations
from compression.export.onnx_int8 import calibrated
from compression.export.onnx_model import OnnxModel, floats, integers
from compression.graph import slim_report, trace, zero_units
from compression.pack import integers as stored
from compression.pack import pack, unpack
from compression.pack.restore import restore_slim
from compression.quant import fold, integer_weights, quantize

CASES = {
    "vit_tiny, activations too": ("vit_tiny", True, False),
    "vgg7, activations too": ("vgg7", True, False),
    "vgg7, activations without a sign": ("vgg7", True, False),
    "attention of torch": ("attention", False, True),
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name != "attention":
        return zoo.build(name).eval()
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10).eval()
    nn.init.normal_(model.heads.head.weight)  # zero at first: every answer would be the same
    return model


@pytest.mark.parametrize("case", CASES)
def test_program_and_onnx_answer_as_the_slim_model(case: str, tmp_path: Path) -> None:
    name, inputs, rebuilt = CASES[case]
    dense, x = network(name), torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    graph = trace(dense, x[:1])
    unsigned = graph.nonnegative_inputs if "without a sign" in case else ()
    masked = quantize(network(name), 6, [x] if inputs else None, 8, unsigned=unsigned)
    zero_units(masked, graph, {group.id: range(0, group.units, 3) for group in graph.prunable if group.units > 3})
    slim, cut = slim_report(fold(masked.eval()), graph)
    pack(slim, tmp_path / "p", cut_weights(integer_weights(masked), graph, cut.units))
    state, known = unpack(tmp_path / "p"), stored(tmp_path / "p")
    model = restore_slim(dense, graph, cut.units, state)
    with torch.no_grad():
        expected = slim.eval()(x)
        assert torch.equal(model(x), expected)
    assert cut.rebuilt == rebuilt

    traced = program.traced(model, torch.zeros(2, 3, 32, 32))
    loaded = torch.export.load(io.BytesIO(program.saved(program.plain(traced)))).module()
    assert not any("compression" in str(node.target) for node in loaded.graph.nodes)
    for count in (1, 5, 8):
        with torch.no_grad():
            assert torch.allclose(loaded(x[:count]), expected[:count], atol=1e-5)

    raw = floats(traced, activations(model))
    narrow = integers(raw, known)
    eight, _ = calibrated(integers(raw, known, arithmetic=True), [x])
    assert {placed.type for placed in narrow.weights} <= {"int4", "int8"}
    assert len(narrow.weights) == len(known)
    assert len(narrow.data) < 0.55 * len(raw.data)
    for file, most in ((narrow, 0.03), (eight, 0.25)):
        output = answers(file.data, x)
        assert np.abs(output - expected.numpy()).mean() < most * float(expected.abs().mean())
    if not inputs:
        assert np.abs(answers(narrow.data, x) - expected.numpy()).max() < 1e-4


def answers(data: bytes, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    runner = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    output: np.ndarray = runner.run(None, {runner.get_inputs()[0].name: x.numpy()})[0]
    return output


def test_ranges_are_those_of_the_images() -> None:
    weight = np.eye(2, dtype=np.int8) * 64
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "step"], ["weight"]),
        helper.make_node("Gemm", ["x", "weight"], ["made"]),
        helper.make_node("Relu", ["made"], ["relu"]),
        helper.make_node("Gemm", ["relu", "weight"], ["y"]),
    ]
    given = [onnx.numpy_helper.from_array(weight, "codes"), onnx.numpy_helper.from_array(np.float32(1 / 32), "step")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    images = [torch.tensor([[-1.0, 3.0]]), torch.tensor([[0.5, 1.0]])]
    quantized, added = calibrated(OnnxModel(model.SerializeToString()), images)
    assert added == 2  # the input, and behind the activation function; logits stay in floats
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(quantized.data).graph.initializer}
    assert held["x.scale"] == pytest.approx(4 / 255)
    assert held["x.zero"] == round(255 / 4)
    assert (held["relu.scale"], held["relu.zero"]) == (pytest.approx(6 / 255), 0)
    types = [node.op_type for node in ir.from_proto(onnx.load_from_string(quantized.data)).graph]
    assert types.count("QuantizeLinear") == 2
    assert np.allclose(answers(quantized.data, images[0]), [[0, 12]], atol=0.05)
