"""Two bits a weight in ONNX: int2 where the runtime computes rightly with it, a wider type and the reason elsewhere."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compression import zoo
from compression.export import findings, onnx_two_bits
from compression.export.onnx_check import answers
from compression.export.onnx_model import OPSET, OnnxModel, floats, integers
from compression.export.program import traced
from compression.methods.opq import allocate, attach
from compression.quant import IntegerWeight, fold, integer_weights

TWO_BITS = pytest.mark.skipif(bool(onnx_two_bits.missing()), reason=onnx_two_bits.missing())


@lru_cache
def narrow(name: str) -> tuple[nn.Module, dict[str, IntegerWeight], OnnxModel, torch.Tensor]:
    """A network with codes of -1, 0 and 1, its codes, its ONNX file in floats, and images."""
    model, size = zoo.build(name).eval(), zoo.spec(name).input
    attach(model, allocate(model, 0.5, 2))
    known, plain = integer_weights(model), fold(model).eval()
    assert all(int(weight.codes.abs().max()) == 1 for weight in known.values())
    return (
        plain,
        known,
        floats(traced(plain, torch.zeros(2, *size))),
        torch.randn(8, *size, generator=torch.Generator().manual_seed(0)),
    )


@TWO_BITS
def test_convolutions_and_linear_layers_hold_their_codes_in_two_bits() -> None:
    model, known, raw, images = narrow("resnet8")
    file = integers(raw, known)
    assert {placed.type for placed in file.weights} == {"int2"}
    proto = onnx.load_from_string(file.data)
    assert [opset.version for opset in proto.opset_import] == [25] == [file.opset]
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, weight in known.items():
        codes = held[f"{name}.weight.codes"]
        assert codes.data_type == onnx.TensorProto.INT2
        assert len(codes.raw_data) == -(-weight.codes.numel() // 4)
        assert np.array_equal(onnx.numpy_helper.to_array(codes).astype(np.int32), weight.codes.numpy())
    with torch.no_grad():
        assert np.abs(answers(file.data, [images])[0].numpy() - model(images).numpy()).max() < 1e-6


@TWO_BITS
def test_matrix_products_take_four_bits_and_say_why() -> None:
    model, known, raw, images = narrow("vit_tiny")
    file = integers(raw, known)
    kinds = {placed.layer: (placed.type, placed.why) for placed in file.weights}
    products = [name for name in known if ".attention." in name or ".mlp." in name]
    assert {kinds[name] for name in products} == {("int4", onnx_two_bits.NO_PRODUCTS)}
    assert kinds["patch"] == ("int2", "")
    with torch.no_grad():
        assert np.abs(answers(file.data, [images], precise=True)[0].numpy() - model(images).numpy()).max() < 1e-5


def test_where_the_type_is_missing_the_card_says_what_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_two_bits, "missing", lambda: "reason 17")
    _, known, raw, _ = narrow("resnet8")
    file = integers(raw, known)
    assert ({placed.type for placed in file.weights}, file.opset) == ({"int4"}, OPSET)
    assert {placed.why for placed in file.weights} == {"reason 17"}
    measured = {
        "layers": {placed.layer: placed.type for placed in file.weights},
        "wider": {placed.layer: placed.why for placed in file.weights},
        "activations": {},
    }
    (line,) = [line for line in findings.stored(measured) if "int2" in line]
    assert f"({', '.join(list(known)[:4])} and {len(known) - 4} more" in line
    assert "reason 17" in line


def test_integer_arithmetic_takes_eight_bits() -> None:
    _, known, raw, _ = narrow("resnet8")
    file = integers(raw, known, arithmetic=True)
    assert ({placed.type for placed in file.weights}, file.opset) == ({"int8"}, OPSET)
    (why,) = {placed.why for placed in file.weights}
    assert why not in ("", onnx_two_bits.NO_PRODUCTS, onnx_two_bits.missing())
