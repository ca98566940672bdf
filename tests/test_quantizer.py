"""The quantizer against formulas written out by hand, and attaching it to models."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from compression.errors import CompressionError
from compression.quant import (
    Quantizer,
    activation_quantizers,
    fold,
    integer_weights,
    quantize,
    weight_quantizers,
    written_out,
)
from compression.quant.attach import fit_ranges
from compression.quant.op import fake_quantize
from compression.quant.quantizer import bit_width


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def by_hand(x: float, g: float, d: float, q: float, t: float) -> tuple[float, float, float, float, float]:
    """(Q, grad x, grad d, grad q_m, grad t) of one element, from the formulas, in Python floats."""
    magnitude, sign = abs(x), math.copysign(1.0, x)
    if magnitude == 0:
        return 0.0, (g if t == 1 else 0.0), 0.0, 0.0, 0.0
    v = min(magnitude, q) ** t
    inside = magnitude <= q
    value = sign * d * round(v / d)
    to_x = g * t * magnitude ** (t - 1) if inside else 0.0
    to_clip = 0.0 if inside else g * sign * t * q ** (t - 1)
    to_exponent = g * sign * v * math.log(min(magnitude, q))
    return value, to_x, g * sign * (round(v / d) - v / d), to_clip, to_exponent


@pytest.mark.parametrize("exponent", [None, 1.3, 0.8])
def test_value_and_gradients_equal_the_formulas_by_hand(exponent: float | None) -> None:
    x = torch.cat(
        [torch.randn(200, dtype=torch.float64), torch.tensor([0.0, 0.9, -0.9, 5.0, -5.0], dtype=torch.float64)]
    )
    upstream = torch.randn_like(x)
    scalars = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.13, 0.9)]
    power = None if exponent is None else torch.tensor(exponent, dtype=torch.float64, requires_grad=True)
    leaf = x.clone().requires_grad_()
    output = fake_quantize(leaf, *scalars, power)
    output.backward(upstream)
    rows = [by_hand(a, g, 0.13, 0.9, exponent or 1.0) for a, g in zip(x.tolist(), upstream.tolist(), strict=True)]
    expected = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(output, expected[:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(leaf.grad, expected[:, 1], rtol=1e-12, atol=1e-12)
    for scalar, column in zip([*scalars, power], (2, 3, 4), strict=True):
        if scalar is not None:
            torch.testing.assert_close(scalar.grad, expected[:, column].sum(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("exponent", [None, 1.4])
def test_gradients_equal_finite_differences_with_the_rounding_residue_held(exponent: float | None) -> None:
    x = torch.rand(50, dtype=torch.float64) * 3 - 1.5
    d, q, t = 0.2, 0.8, exponent or 1.0

    def position(x: torch.Tensor, d: float, q: float, t: float) -> torch.Tensor:
        return x.abs().clamp(max=q).pow(t) / d

    residue = position(x, d, q, t).round() - position(x, d, q, t)

    def surrogate(x: torch.Tensor, d: float, q: float, t: float) -> torch.Tensor:
        return x.sign() * d * (position(x, d, q, t) + residue)

    leaves = [x.clone().requires_grad_()]
    leaves += [
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([d, q] if exponent is None else [d, q, t])
    ]
    fake_quantize(*leaves).sum().backward()
    small = 1e-6
    for index, leaf in enumerate(leaves[1:]):
        moved = [[d, q, t], [d, q, t]]
        moved[0][index] += small
        moved[1][index] -= small
        slope = (surrogate(x, *moved[0]) - surrogate(x, *moved[1])).sum() / (2 * small)
        torch.testing.assert_close(leaf.grad, slope, rtol=1e-6, atol=1e-7)
    slope = (surrogate(x + small, d, q, t) - surrogate(x - small, d, q, t)) / (2 * small)
    torch.testing.assert_close(leaves[0].grad, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("exponent", [None, 1.3])
def test_scaled_gradients_are_the_plain_ones_over_the_root_of_numbers_times_levels(exponent: float | None) -> None:
    x, upstream = torch.randn(6, 50), torch.randn(6, 50)
    plain, scaled = Quantizer(0.9, 4, exponent), Quantizer(0.9, 4, exponent, gradient_scale=True)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [quantizer(leaf) for quantizer, leaf in zip((plain, scaled), leaves, strict=True)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.backward(upstream)
    assert torch.equal(leaves[0].grad, leaves[1].grad)
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad / math.sqrt(300 * 7), rtol=1e-4, atol=1e-7)


def test_scaled_gradients_reach_the_whole_model() -> None:
    torch.manual_seed(0)
    plain = Plain()
    scaled = quantize(copy.deepcopy(plain), 4, gradient_scale=True)
    quantize(plain, 4)
    x = torch.randn(4, 3, 8, 8)
    for model in (plain, scaled):
        model(x).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), scaled.parameters(), strict=True):
        numbers = {"conv": 108, "head": 8}[name.split(".")[0]] if name.endswith(("step_size", "clip")) else 1 / 7
        torch.testing.assert_close(b.grad, a.grad / math.sqrt(numbers * 7), rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12, 16])
def test_bit_width_formula_and_its_inverse(bits: int) -> None:
    for exponent in (None, 1.2):
        quantizer = Quantizer(0.37, bits, exponent)
        clip, d = quantizer.clip.item(), quantizer.step_size.item()
        assert math.log2(clip ** (exponent or 1.0) / d + 1) + 1 == pytest.approx(bits, abs=1e-4)
        assert quantizer.bits() == bits
        codes = quantizer.codes(torch.linspace(-1, 1, 100_001))
        assert int(codes.max()) == 2 ** (bits - 1) - 1
        assert int(codes.min()) == -int(codes.max())
    assert float(bit_width(torch.tensor(0.1), torch.tensor(0.35))) == pytest.approx(math.log2(4.5) + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_is_codes_times_step_bit_for_bit(dtype: torch.dtype) -> None:
    for clip, d in [(0.4, 0.0123), (1.7, 0.31), (3.0, 1e-4)]:
        quantizer = Quantizer(clip)
        with torch.no_grad():
            quantizer.step_size.fill_(d)
        x = torch.randn(4096, dtype=dtype)
        output = quantizer(x)
        assert output.dtype == dtype
        restored = (quantizer.codes(x).to(torch.float32) * torch.tensor(quantizer.step())).to(dtype)
        assert torch.equal(output.view(torch.uint8), restored.view(torch.uint8))


def test_zero_stays_zero_the_function_is_odd_and_applying_it_twice_changes_nothing() -> None:
    quantizer = Quantizer(0.8, 4)
    x = torch.randn(1000)
    assert torch.equal(quantizer(torch.zeros(3)), torch.zeros(3))
    assert torch.equal(quantizer(-x), -quantizer(x))
    assert torch.equal(quantizer(quantizer(x)), quantizer(x))
    assert torch.equal(Quantizer(0.8, 4, 1.3)(torch.zeros(3)), torch.zeros(3))


def test_scalars_below_zero_are_read_as_the_smallest_positive() -> None:
    quantizer = Quantizer(0.8, 4)
    with torch.no_grad():
        quantizer.step_size.fill_(-0.5)
    output = quantizer(torch.randn(100))
    assert torch.isfinite(output).all()
    assert quantizer.step() > 0


@pytest.mark.parametrize("exponent", [None, 1.2])
def test_the_operator_passes_torchs_own_checks(exponent: float | None) -> None:
    power = None if exponent is None else torch.tensor(exponent, requires_grad=True)
    x = torch.randn(4, 3, 2, 2, requires_grad=True)
    arguments = (x, torch.tensor(0.1, requires_grad=True), torch.tensor(0.9, requires_grad=True), power)
    torch.library.opcheck(fake_quantize, arguments)


class Plain(nn.Module):
    """Convolution, norm, linear; the linear layer is called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.norm(self.conv(x)).relu().mean((2, 3))
        out: torch.Tensor = self.head(input=pooled)
        return out


def test_quantize_reaches_every_layer_and_keeps_classes() -> None:
    model = Plain()
    assert quantize(model, 6) is model
    assert list(weight_quantizers(model)) == ["conv", "head"]
    assert isinstance(model.conv, nn.Conv2d)
    assert activation_quantizers(model) == {}
    names = dict(model.named_parameters())
    assert "conv.bias" in names
    assert "conv.parametrizations.weight.original" in names
    largest = names["conv.parametrizations.weight.original"].abs().max().item()
    assert dict(model.named_parameters())["conv.parametrizations.weight.0.clip"].item() == pytest.approx(largest)
    assert torch.unique(model.conv.weight).numel() <= 2**6 - 1


def test_deep_copies_are_independent_and_folding_leaves_the_model_alone() -> None:
    model = quantize(Plain(), 5, calibration=torch.randn(2, 3, 8, 8)).eval()
    x = torch.randn(2, 3, 8, 8)
    before = model(x)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for quantizer in twin.modules():
            if isinstance(quantizer, Quantizer):
                quantizer.set_bits(2)
    assert torch.equal(model(x), before)
    assert not torch.equal(twin(x), before)
    folded = fold(model)
    assert type(folded.conv) is nn.Conv2d
    assert not any("parametrizations" in name for name in folded.state_dict())
    assert torch.equal(folded(x), before)
    assert torch.equal(model(x), before)
    for name, integers in integer_weights(model).items():
        weight = folded.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        assert torch.equal(integers.weight().view(torch.int32), weight.detach().view(torch.int32))
        assert integers.bits == 5


def test_layers_that_share_a_weight_share_a_quantizer_and_stay_tied_after_folding() -> None:
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.weight = one.weight
    model = nn.Sequential(one, nn.ReLU(), two)
    quantize(model, 4)
    first, second = weight_quantizers(model).values()
    assert first is second
    folded = fold(model)
    assert folded.get_submodule("0").weight is folded.get_submodule("2").weight


def test_activation_ranges_come_from_the_batches_and_leave_the_model_unchanged() -> None:
    model = Plain().train()
    before = copy.deepcopy(model.state_dict())
    first, second = torch.rand(2, 3, 8, 8) * 4 - 3, torch.rand(2, 3, 8, 8)
    batches = [first, (second, torch.zeros(2))]
    quantize(model, 16, calibration=batches, activation_bits=8)
    quantizers = activation_quantizers(model)
    assert list(quantizers) == ["conv", "head"]
    largest = max(float(first.abs().max()), float(second.abs().max()))
    assert largest <= quantizers["conv"].clip.item() <= 1.1 * largest
    assert quantizers["conv"].bits() == 8
    assert model.training
    assert torch.equal(model.state_dict()["norm.running_mean"], before["norm.running_mean"])
    narrow = activation_quantizers(quantize(Plain(), 16, calibration=batches, calibration_range="percentile"))
    assert narrow["conv"].clip.item() < quantizers["conv"].clip.item()


def test_half_precision_training_reaches_every_scalar() -> None:
    model = quantize(Plain(), 8, calibration=torch.randn(4, 3, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(4, 3, 8, 8)).float().square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())


def test_bad_input_is_refused_in_words_and_changes_nothing() -> None:
    model = Plain()
    with pytest.raises(CompressionError, match="no layer 'nope'"):
        quantize(model, 4, layers=["nope"])
    with pytest.raises(CompressionError, match=r"2\.\.16"):
        quantize(model, 1)
    with pytest.raises(CompressionError, match="at least one calibration batch"):
        quantize(model, 4, calibration=[])
    with pytest.raises(CompressionError, match="not finite"):
        quantize(model, 4, calibration=torch.full((1, 3, 8, 8), float("nan")))
    with pytest.raises(CompressionError, match="no convolution or linear"):
        quantize(nn.ReLU(), 4)
    assert weight_quantizers(model) == {}
    quantize(model, 4)
    with pytest.raises(CompressionError, match="already carries"):
        quantize(model, 4)


@pytest.mark.parametrize("exponent", [None, 1.3, 0.8])
def test_written_out_in_plain_operations_it_gives_the_same_values(exponent: float | None) -> None:
    one = Quantizer(0.9, 5, exponent)
    x = torch.cat([torch.randn(500), torch.tensor([0.0, 0.9, -0.9, 5.0, -5.0])])
    expected = one(x)
    plain = written_out(nn.Sequential(copy.deepcopy(one)))
    torch.testing.assert_close(plain(x), expected, rtol=0, atol=1e-6)
    assert len(expected.unique()) > 9


def test_a_range_is_measured_after_what_else_happens_to_an_input() -> None:
    """A hook of one's own changes what the layer receives: that is what its quantizer rounds."""
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_pre_hook(lambda _, args: (args[0] * 100,))
    quantize(model, 8, [torch.ones(2, 4)], activation_bits=8)
    (quantizer,) = activation_quantizers(model).values()
    assert float(quantizer.clip.detach()) == pytest.approx(105)
    fit_ranges(model, [torch.ones(2, 4)])
    assert float(quantizer.clip.detach()) == pytest.approx(100, rel=0.02)
