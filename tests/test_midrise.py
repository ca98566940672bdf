"""The trained grid without zero against independent oracles: integrals, finite differences, numpy, the packed file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.encodings import all_encodings
from compression.errors import CompressionError
from compression.export import program
from compression.export.config import activations
from compression.export.onnx_model import floats
from compression.export.onnx_model import integers as with_integers
from compression.graph import slim, trace
from compression.pack import pack, unpack
from compression.pruning.units import parameter_map
from compression.quant import fold, integer_weights
from compression.quant.attach import attach_ranges
from compression.quant.calibrate import InputRange, input_ranges
from compression.quant.midrise import MidriseQuantizer, attach, fitted_step, midrise_quantize
from compression.quant.normal_steps import HALF_NORMAL, NORMAL, input_clip, weight_step
from compression.quant.schemes import fit
from compression.quant.tables import LayerTables
from compression.quant.trained_steps import TrainedSteps
from compression.training.oscillation import Oscillation
from tests.contract.runs import network

BITS = range(1, 9)


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# The least-error steps ------------------------------------------------------------------------------------------------


def density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def cell(low: float, high: float, level: float) -> float:
    """∫ (x - level)² φ(x) dx from low to high, in closed form."""
    mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    first = density(low) - density(high)
    second = mass + (low * density(low) - (0.0 if math.isinf(high) else high * density(high)))
    return second - 2 * level * first + level * level * mass


def midrise_error(step: float, bits: int) -> float:
    edges = [*(k * step for k in range(2 ** (bits - 1))), math.inf]
    return 2 * sum(cell(edges[k], edges[k + 1], (k + 0.5) * step) for k in range(2 ** (bits - 1)))


def behind_relu_error(step: float, bits: int) -> float:
    edges = [0.0, *((k + 0.5) * step for k in range(2**bits - 1)), math.inf]
    return sum(cell(edges[k], edges[k + 1], k * step) for k in range(2**bits))


def golden(error: Callable[[float], float], low: float, high: float) -> float:
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-9:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if error(left) < error(right) else (left, high)
    return (low + high) / 2


@pytest.mark.parametrize("bits", BITS)
def test_the_tables_are_the_minima_of_the_gaussian_integral(bits: int) -> None:
    cells = 2**bits
    best = golden(lambda step: midrise_error(step, bits), 2 / cells, 10 / cells)
    behind = golden(lambda step: behind_relu_error(step, bits), 1 / cells, 6 / cells)
    assert NORMAL[bits - 1] == pytest.approx(best, abs=1.5e-6)
    assert HALF_NORMAL[bits - 1] == pytest.approx(behind, abs=1.5e-6)


def test_one_bit_is_in_closed_form() -> None:
    assert NORMAL[0] == pytest.approx(2 * math.sqrt(2 / math.pi), abs=1e-6)
    assert midrise_error(NORMAL[0], 1) == pytest.approx(1 - 2 / math.pi)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_steps_of_normal_numbers(bits: int) -> None:
    w = 0.3 * seeded(200_000)
    assert float(weight_step(w, bits)) == pytest.approx(0.3 * NORMAL[bits - 1], rel=0.01)
    behind = w.clamp(min=0)
    expected = 0.3 * HALF_NORMAL[bits - 1] * (2**bits - 1)
    assert input_clip([behind[:1000] * 0.1, behind], bits) == pytest.approx(expected, rel=0.02)
    rows = torch.stack([w[:1000], 5 * w[1000:2000], torch.full((1000,), 2.0)])
    steps = weight_step(rows, bits, axis=0)
    assert steps.shape == (3, 1)
    assert float(steps[1] / steps[0]) == pytest.approx(5, rel=0.1)
    assert float(steps[2]) == pytest.approx(float(weight_step(rows, bits)))


def test_the_range_of_inputs_behind_a_relu() -> None:
    model = nn.Sequential(nn.Linear(8, 64, bias=False), nn.ReLU(), nn.Linear(64, 2))
    layers = {name: model.get_submodule(name) for name in ("0", "2")}
    x = seeded(4096, 8)
    ranges = input_ranges(model, layers, x, "normal", lambda _: 2, ["2"])
    with torch.no_grad():
        behind = model[1](model[0](x)).double()
    assert ranges["2"].unsigned and not ranges["0"].unsigned
    sample = behind.flatten()[:: behind.numel() // (1 << 16)]
    assert ranges["2"].bound == pytest.approx(float((2 * sample.square().mean()).sqrt()) * HALF_NORMAL[1] * 3, rel=1e-6)
    assert ranges["0"].bound == input_ranges(model, layers, x, "fitted", lambda _: 2, ["2"])["0"].bound


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_fitted_steps_are_near_the_least_error_of_a_search(bits: int) -> None:
    layer = nn.Linear(64, 50)
    with torch.no_grad():
        layer.weight.copy_(seeded(50, 64).pow(3))
    w = layer.weight.detach()

    def error(step: torch.Tensor) -> float:
        return float((MidriseQuantizer(step, bits)(w) - w).detach().double().square().sum())

    normal = weight_step(w, bits)
    fitted = fitted_step(w, normal, bits)
    best = fit(LayerTables.prepare(nn.Sequential(layer)).layers[0], bits, "midrise")
    assert best.error * (1 - 1e-4) <= error(fitted) <= min(error(normal), 1.2 * best.error)
    by_channel = fitted_step(w, weight_step(w, bits, axis=0), bits)
    assert error(by_channel) <= error(fitted)
    if bits == 1:
        assert float(fitted) == pytest.approx(2 * float(w.abs().mean()))
        torch.testing.assert_close(by_channel[:, 0], 2 * w.abs().mean(1))


# The quantizer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", BITS)
def test_values_are_the_nearest_odd_multiples_of_half_a_step(bits: int) -> None:
    w, step = seeded(5000, seed=bits).numpy(), 0.37
    levels = np.concatenate([-(np.arange(2 ** (bits - 1)) + 0.5) * step, (np.arange(2 ** (bits - 1)) + 0.5) * step])
    nearest = levels[np.abs(w[:, None] - levels).argmin(1)]
    quantizer = MidriseQuantizer(step, bits)
    result = quantizer(torch.tensor(w))
    np.testing.assert_allclose(result.detach().numpy(), nearest, rtol=1e-6)
    assert torch.equal(quantizer(torch.tensor(-w)), -result), "symmetric"
    codes = quantizer.codes(torch.tensor(w))
    assert set(codes.abs().tolist()) <= set(range(1, 2 ** (bits - 1) + 1))
    assert quantizer.bits() == bits


def test_ties_are_symmetric_and_zero_alone_is_zero() -> None:
    w = torch.tensor([-2.0, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, 2.0])
    quantizer = MidriseQuantizer(1.0, 3)
    assert quantizer(w).tolist() == [-2.5, -1.5, -0.5, 0.0, 0.0, 0.5, 1.5, 2.5]
    assert quantizer.codes(w).tolist() == [-3, -2, -1, 0, 0, 1, 2, 3]


def test_one_bit_has_two_values_whose_best_is_the_mean_magnitude() -> None:
    w = seeded(999, seed=4)
    half = float(w.abs().mean())
    quantizer = MidriseQuantizer(2 * half, 1)
    assert {abs(value) for value in quantizer(w).unique().tolist()} == {quantizer.step() / 2}
    assert len(quantizer(w).unique()) == 2

    def error(step: float) -> float:
        return float((MidriseQuantizer(step, 1)(w) - w).detach().double().square().sum())

    assert error(2 * half) < min(error(2 * half * 0.99), error(2 * half * 1.01))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("shape", [(), (4, 1)])
def test_gradients_are_those_of_the_surrogate(bits: int, shape: tuple[int, ...]) -> None:
    """Finite differences of Δ(u + residue) inside and ±cΔ beyond, with the residue held."""
    w = seeded(4, 100, seed=bits).double()
    w[0, :3] = 0.0
    step = torch.tensor([0.5, 0.7, 0.9, 1.1]).double()[:, None] if shape else torch.tensor(0.6).double()
    upstream = seeded(4, 100, seed=9).double()
    a, b = w.clone().requires_grad_(), step.clone().requires_grad_()
    midrise_quantize(a, b, bits).backward(upstream)
    c = (2**bits - 1) / 2
    u = w / step
    level = torch.where(w == 0, 0.0, torch.sign(w) * (torch.clamp(torch.floor(u.abs()) + 1, max=2 ** (bits - 1)) - 0.5))
    inside, residue = u.abs() <= c, level - u

    def surrogate(weight: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        return torch.where(inside, weight + size * residue, torch.sign(w) * c * size)

    torch.testing.assert_close(midrise_quantize(w, step, bits), surrogate(w, step))
    h = 1e-6
    in_w = upstream * (surrogate(w + h, step) - surrogate(w - h, step)) / (2 * h)
    assert a.grad is not None and b.grad is not None
    torch.testing.assert_close(a.grad, in_w, rtol=1e-6, atol=1e-8)
    in_step = (upstream * (surrogate(w, step + h) - surrogate(w, step - h)) / (2 * h)).sum_to_size(step.shape)
    torch.testing.assert_close(b.grad, in_step, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("bits", "factor"), [(1, 1), (2, 1), (4, 7), (8, 127)])
def test_the_gradient_of_the_step_is_scaled(bits: int, factor: int) -> None:
    w, upstream = seeded(5, 60), seeded(5, 60, seed=1)
    for start, n in ((torch.tensor(0.4), 300), (torch.full((5, 1), 0.4), 60)):
        raw = start.clone().requires_grad_()
        midrise_quantize(w, raw, bits).backward(upstream)
        quantizer = MidriseQuantizer(start, bits)
        quantizer(w).backward(upstream)
        assert raw.grad is not None and quantizer.step_size.grad is not None
        torch.testing.assert_close(quantizer.step_size.grad, raw.grad / math.sqrt(n * factor))


def test_operator_and_direct_node_agree_in_every_type() -> None:
    w = seeded(64, 3)
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        quantizer = MidriseQuantizer(0.5, 3)
        x = w.to(kind, copy=True).requires_grad_()
        result = quantizer(x)
        result.sum().backward()
        assert result.dtype == kind and x.grad is not None and x.grad.dtype == kind
        wide = w.to(kind).to(torch.promote_types(kind, torch.float32))
        size = quantizer.step_size.detach().to(wide.dtype)
        assert torch.equal(result, midrise_quantize(wide, size, 3).to(kind))
    torch.library.opcheck(midrise_quantize, (w.double().requires_grad_(), torch.tensor(0.5).double(), 3))


# In a network ---------------------------------------------------------------------------------------------------------


def quantized(bits: int = 2, channel: bool = False) -> nn.Module:
    model = network()
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    steps = {name: weight_step(m.weight, bits, 0 if channel else None) for name, m in layers.items()}
    return attach(model, steps, dict.fromkeys(layers, bits)).eval()


def test_the_graph_of_a_quantized_network_is_that_of_its_float_twin() -> None:
    dense = trace(network(), torch.zeros(1, 1, 12, 12))
    graph = trace(quantized(), torch.zeros(1, 1, 12, 12))
    shape = [(g.units, g.prunable, sorted((m.name, m.dim) for m in g.members)) for g in graph.groups]
    assert shape == [(g.units, g.prunable, sorted((m.name, m.dim) for m in g.members)) for g in dense.groups]
    assert graph.nonnegative_inputs == dense.nonnegative_inputs


@pytest.mark.parametrize("channel", [False, True])
def test_removed_units_stay_zero_and_slim_is_equal(channel: bool) -> None:
    model, x = quantized(2, channel), seeded(5, 1, 12, 12)
    graph = trace(model, x[:1])
    parameters = parameter_map(model)
    with torch.no_grad():
        for member in graph.prunable[0].members:
            if not member.buffer:
                parameters[member.name].index_fill_(member.dim, member.positions[:2].flatten(), 0.0)
    codes = [weight.codes for weight in integer_weights(model).values()]
    assert sum(int((c == 0).sum()) for c in codes) > 0
    assert torch.equal(fold(model)(x), model(x))
    torch.testing.assert_close(slim(fold(model), graph)(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize("bits", [1, 3])
def test_the_packed_file_is_the_weight_bit_for_bit(bits: int, channel: bool, tmp_path: Path) -> None:
    model = quantized(bits, channel)
    weights = integer_weights(model)
    assert {weight.kind for weight in weights.values()} == {"offset-channel" if channel else "offset"}
    assert {weight.bits for weight in weights.values()} == {bits}
    pack(model, tmp_path / "file.bin")
    restored = unpack(tmp_path / "file.bin")
    for name, weight in weights.items():
        assert torch.equal(restored[f"{name}.weight"], model.get_submodule(name).weight.detach())
        assert set(all_encodings()[weight.kind].describe(weight)) >= {"bits", "kind"}
    packed = (tmp_path / "file.bin").stat().st_size
    assert packed < sum(w.codes.numel() for w in weights.values()) * bits / 8 + 12_000


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize(("bits", "inputs"), [(1, None), (2, None), (1, 1), (3, 2)])
def test_onnx_runtime_agrees(bits: int, inputs: int | None, channel: bool) -> None:
    """Without its optimizations, which round weights to 8 bits behind quantized inputs."""
    model, x = quantized(bits, channel), seeded(4, 1, 12, 12)
    weights = integer_weights(model)
    if inputs is not None:
        ranges = {name: InputRange(2.0, name != "conv1") for name in weights}
        widths = {name: inputs if name != "conv1" else 8 for name in weights}
        attach_ranges(model, ranges, widths, gradient_scale=True)
    plain = fold(model)
    file = with_integers(floats(program.traced(plain, x), activations(plain)), weights)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(file.data, options, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(answer, model(x).numpy(), rtol=1e-4, atol=1e-4)
    assert len(file.weights) == len(weights)


def test_a_layer_that_cannot_carry_one_is_refused_and_nothing_changes() -> None:
    model = quantized()
    with pytest.raises(CompressionError, match="already carries"):
        attach(model, {"conv1": 1.0}, {"conv1": 2})
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        other[1].weight[0, 0] = math.nan
    with pytest.raises(CompressionError, match="not finite"):
        attach(other, {"0": 1.0, "1": 1.0}, {"0": 2, "1": 2})
    assert not parametrize.is_parametrized(other[0])


# Training of steps ----------------------------------------------------------------------------------------------------


def trained(model: nn.Module, rate: float) -> TrainedSteps:
    steps = TrainedSteps(model)
    model(seeded(16, 6, seed=3)).square().sum().backward()
    steps.step(rate)
    return steps


def two_layers() -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    attach(model, {"0": 0.2, "2": 0.2}, {"0": 1, "2": 3})
    attach_ranges(model, {"2": InputRange(0.9, True), "0": InputRange(1.5, False)}, {"2": 2, "0": 3}, True)
    return model


def test_steps_descend_along_their_gradient_and_bounds_follow() -> None:
    model = two_layers()
    model(seeded(16, 6, seed=3)).square().sum().backward()
    weight, inputs = model[0].parametrizations.weight[0], model[2].input_quantizer
    slope = float(inputs.step_size.grad + 3 * inputs.clip.grad)
    before = weight.step_size.item(), weight.step_size.grad.item(), inputs.step_size.item()
    TrainedSteps(model).step(1e-4)
    assert float(weight.step_size) == pytest.approx(before[0] - 1e-4 * before[1], rel=1e-5)
    assert float(inputs.step_size) == pytest.approx(before[2] - 1e-4 * slope, rel=1e-5)
    assert float(inputs.clip) == pytest.approx(3 * float(inputs.step_size))
    assert (weight.bits(), inputs.bits()) == (1, 2)
    assert all(p.grad is None for q in (weight, inputs) for p in q.parameters())


def test_the_slope_of_an_inputs_step_is_the_published_one() -> None:
    """dQ/dΔ = round(u) - u below the top and 2^b - 1 above it, times 1/√(n (2^b - 1))."""
    model = two_layers()
    quantizer = model[2].input_quantizer
    x = seeded(50, 8).abs()
    quantizer(x).sum().backward()
    step = quantizer.step()
    u = (x / step).numpy()
    expected = np.where(u > 3, 3, np.round(u) - u).sum() / math.sqrt(x.numel() * 3)
    assert float(quantizer.step_size.grad + 3 * quantizer.clip.grad) == pytest.approx(expected, rel=1e-4)


def test_one_update_changes_a_step_by_a_tenth_at_most() -> None:
    model = two_layers()
    before = [float(q.step_size) for q in (model[0].parametrizations.weight[0], model[2].input_quantizer)]
    trained(model, 1e6)
    after = [float(q.step_size) for q in (model[0].parametrizations.weight[0], model[2].input_quantizer)]
    for old, new in zip(before, after, strict=True):
        assert abs(new / old - 1) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("bits", [1, 3])
def test_weights_are_damped_towards_values_and_frozen_at_them(bits: int) -> None:
    layer = nn.Linear(40, 5)
    with torch.no_grad():
        layer.weight[0, 0] = 0.0
    model = nn.Sequential(layer)
    attach(model, {"0": 0.1}, {"0": bits})
    raw, quantizer = layer.parametrizations.weight.original, layer.parametrizations.weight[0]  # type: ignore
    damped = Oscillation(model, "dampen", 0, 2)
    raw.grad = torch.zeros_like(raw)
    damped.before_update(1)
    c = (2**bits - 1) / 2 * 0.1
    distance = raw.detach().clamp(-c, c) - quantizer(raw.detach()).detach()
    torch.testing.assert_close(raw.grad, 2 * 0.1 * distance)
    frozen = Oscillation(model, "freeze", 0, 400)
    for step in range(300):
        with torch.no_grad():
            raw[1, 1] = 0.04 * (-1) ** step
        frozen.after_update(step)
    assert frozen.frozen == 1
    assert abs(float(raw[1, 1])) == pytest.approx(0.05)
    assert float(raw[0, 0]) == 0.0
