"""Quantizers without a sign: where they may stand, what they compute, and that files and runtimes agree."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import nn

import compression as cx
from compression import methods, zoo
from compression.errors import CompressionError
from compression.graph import trace
from compression.methods import Reporter
from compression.methods.geta.bounds import BitBounds, Site
from compression.methods.geta.run import attach
from compression.pack.restore import restore_slim
from compression.quant import activation_quantizers, fold, quantize
from compression.quant.clipping import best_clip
from compression.quant.fixed_bits import FixedBits
from compression.quant.op import fake_quantize, round_to_codes
from compression.quant.quantizer import Quantizer
from tests.contract.runs import budget, setup

# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "signed"),
    [
        ("resnet8", ["conv1"]),
        ("vgg7_small", ["features.0"]),
        ("mobilenet_small", ["stem.0", *(f"blocks.{i}.expand.0" for i in range(1, 7)), "head.0"]),
    ],
)
def test_layers_behind_a_relu_need_no_sign(name: str, signed: list[str]) -> None:
    """The image, and in a MobileNet what comes out of a block without an activation function, keep theirs."""
    graph = trace(zoo.build(name), zoo.example(name))
    assert [layer.name for layer in graph.layers if layer.name not in graph.nonnegative_inputs] == signed


def test_a_transformer_has_signs_everywhere() -> None:
    graph = trace(zoo.build("vit_tiny"), zoo.example("vit_tiny"))
    assert not graph.nonnegative_inputs


class Reads(nn.Module):
    """A linear layer behind some function of a linear layer's output ``a`` and the input ``x``."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.first, self.second = function, nn.Linear(6, 6), nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.rand(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.function(self, self.first(x), x))
        return result


def overwritten(net: Reads, a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    positive = F.relu(a)
    view = positive.view(-1, 6)
    positive.sub_(1.0)
    return view


NEVER: dict[str, Any] = {
    "relu": lambda net, a, x: F.relu(a),
    "relu in place": lambda net, a, x: F.relu_(a),
    "relu6": lambda net, a, x: F.relu6(a),
    "sigmoid": lambda net, a, x: a.sigmoid(),
    "softmax": lambda net, a, x: a.softmax(-1),
    "square": lambda net, a, x: a.square(),
    "absolute": lambda net, a, x: a.abs(),
    "sum of two": lambda net, a, x: F.relu(a) + x.abs(),
    "product of two": lambda net, a, x: F.relu(a) * x.sigmoid(),
    "joined": lambda net, a, x: torch.cat([F.relu(a)[:, :3], x.exp()[:, 3:]], 1),
    "joined along the last": lambda net, a, x: torch.cat([F.relu(a)[:, :3], x.exp()[:, 3:]], -1),
    "reshaped": lambda net, a, x: F.relu(a).view(-1, 2, 3).transpose(1, 2).flatten(1).clone(),
    "pooled": lambda net, a, x: F.avg_pool1d(F.relu(a)[None], 3, 1, 1)[0],
    "dropout": lambda net, a, x: F.dropout(F.relu(a), 0.5, net.training),
    "clamped": lambda net, a, x: a.clamp(0, 3),
    "maximum": lambda net, a, x: torch.maximum(a, x.abs()),
    "gelu of relu": lambda net, a, x: F.gelu(F.relu(a)),
    "scaled": lambda net, a, x: 0.5 * F.relu(a),
    "softplus": lambda net, a, x: F.softplus(a),
    "elu of relu": lambda net, a, x: F.elu(F.relu(a)),
    "another type": lambda net, a, x: F.relu(a).double().float(),
}
PERHAPS: dict[str, Any] = {
    "nothing": lambda net, a, x: a,
    "input": lambda net, a, x: x,
    "gelu": lambda net, a, x: F.gelu(a),
    "hardswish": lambda net, a, x: F.hardswish(a),
    "leaky": lambda net, a, x: F.leaky_relu(a),
    "a negative share": lambda net, a, x: torch.add(F.relu(a), x.abs(), alpha=-1),
    "difference": lambda net, a, x: F.relu(a) - x.abs(),
    "shifted": lambda net, a, x: F.relu(a) + (-1.0),
    "softplus the other way round": lambda net, a, x: F.softplus(a, beta=-1),
    "wrapped": lambda net, a, x: (100 * F.relu(a)).to(torch.int8).float(),
    "elu of a negative scale": lambda net, a, x: torch.ops.aten.elu(F.relu(a), 1.0, -1.0, 1.0),
    "negated": lambda net, a, x: -F.relu(a),
    "cubed": lambda net, a, x: a.pow(3),
    "times a parameter": lambda net, a, x: F.relu(a) * net.scale,
    "sum with a raw one": lambda net, a, x: F.relu(a) + x,
    "normalised": lambda net, a, x: F.layer_norm(F.relu(a), (6,)),
    "hardtanh": lambda net, a, x: F.hardtanh(a),
    "clamped to a range": lambda net, a, x: a.clamp(-1, 3),
    "clamped from above": lambda net, a, x: F.relu(a).clamp(max=-0.5),
    "written in place": overwritten,
}


@pytest.mark.parametrize("name", NEVER)
def test_what_can_never_be_negative(name: str) -> None:
    net, x = Reads(NEVER[name]).eval(), torch.randn(64, 6)
    graph = trace(net, x)
    assert graph.nonnegative_inputs == {"second"}
    with torch.no_grad():
        assert (NEVER[name](net, net.first(x), x) >= 0).all()


@pytest.mark.parametrize("name", PERHAPS)
def test_what_may_be_negative_keeps_its_sign(name: str) -> None:
    assert not trace(Reads(PERHAPS[name]).eval(), torch.randn(4, 6)).nonnegative_inputs


@pytest.mark.parametrize("last", ["raw", "rectified"])
def test_a_layer_that_reads_twice_needs_both(last: str) -> None:
    class Twice(Reads):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read = [F.relu(x), x] if last == "raw" else [x, F.relu(x)]
            result: torch.Tensor = self.second(read[0]) + self.second(read[1])
            return result

    assert not trace(Twice(None).eval(), torch.randn(4, 6)).nonnegative_inputs


def test_batches_that_disagree_keep_the_sign() -> None:
    net = Reads(lambda net, a, x: a)
    quantize(net, 8, torch.randn(16, 6), unsigned={"first", "second"})
    assert not any(quantizer.is_unsigned for quantizer in activation_quantizers(net).values())
    net = Reads(lambda net, a, x: F.relu(a))
    quantize(net, 8, [torch.rand(16, 6)], unsigned=trace(net, torch.rand(2, 6)).nonnegative_inputs)
    assert [quantizer.is_unsigned for quantizer in activation_quantizers(net).values()] == [False, True]


@pytest.mark.parametrize("names", [True, "second"])
def test_what_are_no_names_of_layers_is_refused(names: Any) -> None:
    with pytest.raises(CompressionError, match="unsigned must be names of layers"):
        quantize(Reads(lambda net, a, x: F.relu(a)), 8, torch.rand(4, 6), unsigned=names)


@pytest.mark.parametrize("entry", [torch.tensor(False), torch.tensor([True]), torch.tensor(float("nan"))])
def test_a_packed_entry_that_is_not_true_is_refused(entry: torch.Tensor) -> None:
    net = Reads(lambda net, a, x: F.relu(a)).eval()
    graph = trace(net, torch.rand(2, 6))
    masked = quantize(net, 8, [torch.rand(4, 6)], unsigned=graph.nonnegative_inputs)
    state = fold(masked).state_dict()
    assert state["second.input_quantizer.unsigned"]
    restored = restore_slim(Reads(net.function).eval(), graph, {}, state)
    assert activation_quantizers(restored)["second"].is_unsigned
    with pytest.raises(CompressionError, match=r"second\.input_quantizer\.unsigned must be true"):
        restore_slim(Reads(net.function).eval(), graph, {}, {**state, "second.input_quantizer.unsigned": entry})


# --- what -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_are_those_of_onnx_runtime(bits: int) -> None:
    """uint8 QuantizeLinear with zero point 0 behind a clip at the bound."""
    quantizer = Quantizer(2.7, bits, unsigned=True)
    x = torch.cat([torch.linspace(-1, 4, 5001), torch.arange(2**bits) * quantizer.step()])
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["clipped"]),
        helper.make_node("QuantizeLinear", ["clipped", "step", "zero"], ["codes"]),
    ]
    constants = {"low": np.float32(0), "high": quantizer.clip.detach().numpy(), "step": np.float32(quantizer.step())}
    given = [helper.make_tensor(name, TensorProto.FLOAT, [], [float(v)]) for name, v in constants.items()]
    given.append(helper.make_tensor("zero", TensorProto.UINT8, [], [0]))
    ends = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("codes", TensorProto.UINT8, ["n"]),
    )
    model = helper.make_model(
        helper.make_graph(nodes, "g", [ends[0]], [ends[1]], given),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    runner = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = runner.run(None, {"x": x.numpy()})[0]
    codes = quantizer.codes(x)
    assert np.array_equal(codes.numpy(), expected)
    assert (int(codes.min()), int(codes.max())) == (0, 2**bits - 1)
    assert torch.equal(quantizer(x), codes * quantizer.step())


@pytest.mark.parametrize("bits", [2, 3.5, 8, 16])
@pytest.mark.parametrize("exponent", [None, 0.7])
def test_bits_and_step_are_inverses(bits: float, exponent: float | None) -> None:
    quantizer = Quantizer(1.9, bits, exponent, unsigned=True)
    assert quantizer.bits() == pytest.approx(bits)
    assert quantizer.step() == pytest.approx(1.9 ** (exponent or 1) / (2**bits - 1))
    signed = Quantizer(1.9, bits, exponent)
    assert signed.step() > 2 * quantizer.step()


def test_the_step_with_an_exponent_and_its_gradient() -> None:
    """Finite differences of the smooth part, at points where no code changes; negative numbers get nothing."""
    x = torch.tensor([-0.8, -1e-3, 0.0, 0.31, 0.77, 1.4, 3.0], dtype=torch.float64, requires_grad=True)
    d, q, t = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.11, 1.5, 0.8))
    weights = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (fake_quantize(x, d, q, t, True) * weights).sum().backward()
    assert x.grad is not None and q.grad is not None and t.grad is not None
    assert x.grad[:2].tolist() == [0, 0]

    def smooth(x: torch.Tensor, q: float, t: float) -> float:
        return float((x.clamp(0, q) ** t * weights).sum())

    step, plain = 1e-6, x.detach()
    assert q.grad.item() == pytest.approx((smooth(plain, 1.5 + step, 0.8) - smooth(plain, 1.5 - step, 0.8)) / 2e-6)
    assert t.grad.item() == pytest.approx((smooth(plain, 1.5, 0.8 + step) - smooth(plain, 1.5, 0.8 - step)) / 2e-6)
    for i in range(3, 6):
        up, down = plain.clone(), plain.clone()
        up[i] += step
        down[i] -= step
        assert x.grad[i].item() == pytest.approx((smooth(up, 1.5, 0.8) - smooth(down, 1.5, 0.8)) / 2e-6, rel=1e-4)
    codes = round_to_codes(plain, d.detach(), q.detach(), t.detach(), True)
    assert codes[:3].tolist() == [0, 0, 0]


def test_a_fitted_range_has_the_least_error() -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(1)).relu()

    def error(bound: float) -> float:
        step = bound / 15
        return float((x.clamp(0, bound).div(step).round() * step - x).square().sum())

    bound = best_clip(x, 4, unsigned=True)
    assert error(bound) <= min(error(float(x.max()) * i / 200) for i in range(20, 201)) * 1.01
    assert best_clip(x, 4) != bound


# --- in training ------------------------------------------------------------------------------------------------------


def test_bounds_of_bits_hold_an_unsigned_site_beside_a_signed_one() -> None:
    quantizers = [Quantizer(1.3, 16), Quantizer(0.9, 16, unsigned=True)]
    bounds = BitBounds([Site(str(i), "activation", q, (4, 6)) for i, q in enumerate(quantizers)], 16)
    lowest, highest = bounds.range(1.0)
    assert lowest.tolist() == pytest.approx([1.3 / 31, 0.9 / 63])
    assert highest.tolist() == pytest.approx([1.3 / 7, 0.9 / 15])
    for progress, bits in ((0.0, 16), (0.5, 11), (1.0, 6)):
        bounds.project(progress)
        assert [quantizer.bits() for quantizer in quantizers] == pytest.approx([bits, bits], abs=1e-3)
    with torch.no_grad():
        for quantizer in quantizers:
            quantizer.step_size.mul_(1.9)
    bounds.round_bits()
    bounds.freeze_bits()
    assert [quantizer.bits() for quantizer in quantizers] == [5, 5]


def test_a_range_at_fixed_bits_follows_its_gradient() -> None:
    """d = q/15, so that dq = dL/dq + dL/dd / 15."""
    net = Reads(lambda net, a, x: F.relu(a))
    x = torch.rand(32, 6)
    quantize(net, 8, x, 4, unsigned={"second"})
    quantizer = activation_quantizers(net)["second"]
    fixed = FixedBits(net, {"first": 8, "second": 8}, {"first": 4, "second": 4})
    net(x).square().sum().backward()
    clip, step = quantizer.clip, quantizer.step_size
    assert clip.grad is not None and step.grad is not None
    expected = clip.item() - 1e-4 * (clip.grad.item() + step.grad.item() / 15)
    fixed.step(1e-4)
    assert clip.item() == pytest.approx(expected)
    assert quantizer.bits() == 4


@pytest.mark.parametrize("method", ["geta", "sequential", "ptq"])
def test_every_method_that_quantizes_activations_can(method: str) -> None:
    for unsigned in (False, True):
        requested = budget(method, options={"unsigned": unsigned})
        given = setup(requested.model_copy(update={"epochs": 1.0}))
        methods.get(method).run(given, Reporter())
        signs = [not quantizer.is_unsigned for quantizer in activation_quantizers(given.model).values()]
        expected = [name not in given.graph.nonnegative_inputs for name in activation_quantizers(given.model)]
        assert signs == (expected if unsigned else [True] * len(signs))
        assert {quantizer.bits() for quantizer in activation_quantizers(given.model).values()} <= {6, 7, 8}


def test_off_by_default_and_in_the_paper() -> None:
    for options in ({}, {"preset": "paper"}):
        assert not methods.get("geta").options(budget("geta", options=options)).unsigned
    given = setup(budget("geta"))
    attach(given, methods.get("geta").options(given.budget), Reporter())
    assert not any(quantizer.is_unsigned for quantizer in activation_quantizers(given.model).values())


def test_no_batches_are_refused_in_ones_own_loop() -> None:
    requested = cx.Budget(method="geta", activation_bits=(4, 4), options={"unsigned": True})
    with pytest.raises(CompressionError, match="at least one calibration batch"):
        cx.apply(zoo.build("resnet8").eval(), requested, calibration=[])


def test_ones_own_loop_has_them_too() -> None:
    model, x = zoo.build("resnet8").eval(), zoo.example("resnet8", 4)[0]
    requested = cx.Budget(method="geta", activation_bits=(4, 4), options={"unsigned": True})
    cx.apply(model, requested, calibration=itertools.repeat((x, None), 2))
    assert sum(quantizer.is_unsigned for quantizer in activation_quantizers(model).values()) == 9
    again = zoo.build("resnet8").eval()
    state = model.state_dict()
    assert sum(name.endswith("input_quantizer.unsigned") for name in state) == 9
    cx.apply(again, requested, calibration=x)
    again.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
