"""A clipping bound for each output channel: gradients by hand, one bit-width a layer, cut and packed with it."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import compression as cx
from compression.counting.cost import output_axes
from compression.counting.entropy import entropy_bytes
from compression.encodings import cut_weights
from compression.graph.types import Graph
from compression.pack import integers, pack, unpack
from compression.quant import (
    Quantizer,
    fold,
    integer_weights,
    kernels,
    native,
    quantize,
    weight_quantizers,
    written_out,
)
from compression.quant.clipping import best_clip, fit_clips
from compression.quant.op import fake_quantize
from compression.training.measure import sizes
from tests.alone import loader

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["pass by pass", "compiled"])
def compiled(request: pytest.FixtureRequest) -> bool:
    compiled = request.param == "compiled"
    with kernels.using(False):
        why = kernels.compile_kernels() if compiled else None
    if why is not None:
        pytest.skip(why)
    return compiled


def by_hand(x: float, g: float, d: float, q: float, t: float) -> tuple[float, float, float, float]:
    """(Q, grad x, grad d, grad q_m) of one element, from the formulas, in Python floats."""
    magnitude, sign = abs(x), math.copysign(1.0, x)
    v = min(magnitude, q) ** t
    inside = magnitude <= q
    to_x = g * t * magnitude ** (t - 1) if inside else 0.0
    to_clip = 0.0 if inside else g * sign * t * q ** (t - 1)
    return sign * d * round(v / d), to_x, g * sign * (round(v / d) - v / d), to_clip


# --- the quantizer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("exponent", [None, 1.3])
def test_each_channel_has_the_values_and_gradients_of_the_formulas(axis: int, exponent: float | None) -> None:
    x, g = torch.randn(4, 5, 3, dtype=DOUBLE), torch.randn(4, 5, 3, dtype=DOUBLE)
    channels = x.shape[axis]
    shape = [channels if dim == axis else 1 for dim in range(3)]
    q = torch.rand(channels, dtype=DOUBLE) + 0.3
    d = torch.rand(channels, dtype=DOUBLE) * 0.2 + 0.02
    leaf = x.clone().requires_grad_()
    step, clip = (each.reshape(shape).clone().requires_grad_() for each in (d, q))
    output = fake_quantize(leaf, step, clip, None if exponent is None else torch.tensor(exponent, dtype=DOUBLE))
    output.backward(g)
    expected = torch.zeros(4, *x.shape, dtype=DOUBLE)
    for where in torch.cartesian_prod(*(torch.arange(size) for size in x.shape)).tolist():
        c = where[axis]
        values = by_hand(float(x[*where]), float(g[*where]), float(d[c]), float(q[c]), exponent or 1.0)
        expected[:, *where] = torch.tensor(values, dtype=DOUBLE)
    others = [dim for dim in range(3) if dim != axis]
    torch.testing.assert_close(output.detach(), expected[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(leaf.grad, expected[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(step.grad, expected[2].sum(others, keepdim=True), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(clip.grad, expected[3].sum(others, keepdim=True), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("exponent", [None, 1.4])
def test_gradients_of_the_layers_step_and_the_channels_bounds_are_finite_differences(exponent: float | None) -> None:
    """Of the surrogate: the residue of each channel's rounding held, d[c] = s q[c]^t moving with what it is made of."""
    x = torch.randn(4, 60, dtype=DOUBLE)
    quantizer = Quantizer(torch.rand(4, 1) + 0.4, 4, exponent).double()
    scalars = [p.detach().clone() for p in (quantizer.step_size, quantizer.clip)]
    t = torch.tensor(exponent or 1.0, dtype=DOUBLE)
    scalars.append(t)

    def position(s: torch.Tensor, q: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.minimum(x.abs(), q).pow(t) / (s * q.pow(t))

    residue = position(*scalars).round() - position(*scalars)

    def surrogate(s: torch.Tensor, q: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (x.sign() * s * q.pow(t) * (position(s, q, t) + residue)).sum()

    quantizer(x).sum().backward()
    gradients = [quantizer.step_size.grad, quantizer.clip.grad]
    gradients += [] if quantizer.exponent is None else [quantizer.exponent.grad]
    for which, gradient in enumerate(gradients):
        assert gradient is not None
        for index in range(gradient.numel()):
            ends = []
            for small in (1e-6, -1e-6):
                moved = [value.clone() for value in scalars]
                moved[which].reshape(-1)[index] += small
                ends.append(surrogate(*moved))
            slope = float(ends[0] - ends[1]) / 2e-6
            assert float(gradient.reshape(-1)[index]) == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("exponent", [None, 1.3])
def test_equal_bounds_are_the_quantizer_of_the_whole_tensor(exponent: float | None) -> None:
    x, g = torch.randn(6, 50, dtype=DOUBLE), torch.randn(6, 50, dtype=DOUBLE)
    whole, channels = Quantizer(0.9, 4, exponent).double(), Quantizer(torch.full((6, 1), 0.9), 4, exponent).double()
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [quantizer(leaf) for quantizer, leaf in zip((whole, channels), leaves, strict=True)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)
    for output in outputs:
        output.backward(g)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-6, atol=1e-9)
    assert whole.clip.grad is not None and whole.step_size.grad is not None
    assert channels.clip.grad is not None and channels.step_size.grad is not None
    t, top, slope = exponent or 1.0, 0.9 ** (exponent or 1.0), whole.step_size.grad
    torch.testing.assert_close(channels.step_size.grad, slope * top, rtol=1e-5, atol=1e-6)
    coupled = whole.clip.grad + slope * whole.step_size.detach() * t / 0.9
    torch.testing.assert_close(channels.clip.grad.sum(), coupled, rtol=1e-5, atol=1e-6)
    assert whole.bits() == channels.bits() == 4


def test_scaled_gradients_know_the_size_of_the_channel() -> None:
    x, upstream = torch.randn(6, 50), torch.randn(6, 50)
    bounds = torch.rand(6, 1) + 0.5
    plain, scaled = Quantizer(bounds, 4), Quantizer(bounds, 4, gradient_scale=True)
    outputs = [quantizer(x) for quantizer in (plain, scaled)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.backward(upstream)
    assert plain.clip.grad is not None and plain.step_size.grad is not None
    torch.testing.assert_close(scaled.clip.grad, plain.clip.grad / math.sqrt(50 * 7), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scaled.step_size.grad, plain.step_size.grad / math.sqrt(300 * 7), rtol=1e-4, atol=1e-6)


LAYOUTS: dict[str, tuple[torch.Tensor, int]] = {
    "contiguous": (torch.randn(6, 4, 3, 3), 0),
    "channels last": (torch.randn(6, 4, 3, 3).contiguous(memory_format=torch.channels_last), 0),
    "pointwise": (torch.randn(6, 4, 1, 1).contiguous(memory_format=torch.channels_last), 0),
    "turned": (torch.randn(4, 6).t(), 0),
    "transposed convolution": (torch.randn(4, 6, 3, 3), 1),
    "with gaps": (torch.randn(6, 30)[:, ::3], 0),
    "bf16": (torch.randn(6, 30).bfloat16(), 0),
    "fp64": (torch.randn(6, 30, dtype=DOUBLE), 0),
    "one channel": (torch.randn(1, 30), 0),
    "shared out": (torch.randn(6, native.SHARED_FROM // 6 + 5), 0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_way_gives_the_codes_times_the_step_and_the_same_gradients(layout: str, compiled: bool) -> None:
    x, axis = LAYOUTS[layout]
    shape = [size if dim == axis else 1 for dim, size in enumerate(x.shape)]
    quantizer = Quantizer(torch.rand(shape) * 2 + 0.2, 4)
    upstream = torch.randn(x.shape).to(x.dtype)
    leaf, twin = x.clone().requires_grad_(), x.to(DOUBLE, copy=True).requires_grad_()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if layout == "shared out" else threads)
        with kernels.using(compiled):
            output = quantizer(leaf)
            output.backward(upstream)
    finally:
        torch.set_num_threads(threads)
    step = torch.as_tensor(quantizer.step())
    restored = (quantizer.codes(x).to(torch.promote_types(x.dtype, torch.float32)) * step).to(x.dtype)
    assert torch.equal(output, restored)
    assert not (output.detach().signbit() & (output.detach() == 0)).any(), "-0 would not survive packing"
    s, q = (p.detach().double().requires_grad_() for p in (quantizer.step_size, quantizer.clip))
    clipped = torch.minimum(torch.maximum(twin, -q), q)
    inside = twin.abs() <= q
    clipped = torch.where(inside, twin, q * twin.sign())
    whole = quantizer.codes(x).double()
    (clipped + s * q * (whole - clipped / (s * q)).detach()).backward(upstream.double())
    assert leaf.grad is not None and twin.grad is not None
    assert torch.equal(leaf.grad, twin.grad.to(x.dtype))
    for mine, oracle in ((quantizer.step_size, s), (quantizer.clip, q)):
        assert mine.grad is not None and oracle.grad is not None
        scale = float(upstream.abs().sum()) * 1e-6 + 1e-12
        torch.testing.assert_close(mine.grad.double(), oracle.grad, rtol=1e-3, atol=scale)


def test_the_operator_passes_torchs_own_checks_with_channels() -> None:
    x = torch.randn(4, 3, 2, 2, requires_grad=True)
    step, clip = ((torch.rand(4, 1, 1, 1) + 0.1).requires_grad_() for _ in range(2))
    torch.library.opcheck(fake_quantize, (x, step, clip, None))


# --- on a model -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Convolutions of every kind: plain, depthwise with one number a channel, transposed; and a linear layer."""

    def __init__(self, spread: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 1, groups=8)
        self.wider = nn.ConvTranspose2d(8, 6, 2)
        self.last = nn.Conv2d(6, 7, 3)
        self.head = nn.Linear(7, 5)
        with torch.no_grad():  # channels of very different sizes, the next layer making up for it
            factors = torch.logspace(-spread, spread, 8).reshape(8, 1, 1, 1)
            self.norm.running_var.mul_(factors.flatten().square())  # type: ignore[operator]
            self.first.weight.mul_(factors)
            self.first.bias.mul_(factors.flatten())  # type: ignore[union-attr]
            self.norm.eps = 1e-12

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depth(self.norm(self.first(x)).relu())
        x = self.last(self.wider(x).relu()).relu().mean((2, 3))
        out: torch.Tensor = self.head(x)
        return out


IMAGES = (3, 8, 8)


def graphs(model: nn.Module) -> Graph:
    return cx.trace(model, torch.zeros(1, *IMAGES))


def test_ranges_reach_each_channels_largest_weight_and_the_layer_has_one_bit_width() -> None:
    model = Net()
    with torch.no_grad():
        model.last.weight[2] = 0
    largest = {name: p.detach().clone() for name, p in model.named_parameters()}
    quantize(model, 5, torch.randn(2, *IMAGES), per_channel=True)
    quantizers = weight_quantizers(model)
    for name, quantizer in quantizers.items():
        assert isinstance(quantizer, Quantizer)
        weight = largest[f"{name}.weight"]
        axis = 1 if name == "wider" else 0
        bounds = weight.abs().movedim(axis, 0).flatten(1).amax(1)
        bounds = torch.where(bounds > 0, bounds, weight.abs().max())
        assert torch.equal(quantizer.clip.detach().flatten(), bounds)
        assert quantizer.clip.shape[axis] == len(bounds) and quantizer.clip.dim() == weight.dim()
        assert quantizer.bits() == 5
        codes = quantizer.codes(weight).movedim(axis, 0).flatten(1)
        assert (codes.abs().amax(1)[bounds == weight.abs().movedim(axis, 0).flatten(1).amax(1)] == 15).all()
    assert all(q.clip.dim() == 0 for q in cx.quant.activation_quantizers(model).values())


def test_channels_of_very_different_sizes_need_their_own_steps() -> None:
    x = torch.randn(16, *IMAGES)
    dense = Net(spread=1.5).eval()
    errors = {}
    for per_channel in (False, True):
        rounded = quantize(copy.deepcopy(dense), 4, per_channel=per_channel)
        with torch.no_grad():
            expected, output = (model(x) - model(x).mean(0) for model in (dense, rounded))
        errors[per_channel] = float((output - expected).square().sum() / expected.square().sum())
    assert errors[True] < 0.25 * errors[False], errors


def test_fitted_bounds_are_those_of_each_channel_alone() -> None:
    model = Net(spread=1.0)
    dense = copy.deepcopy(model)
    quantize(model, 16, per_channel=True)
    before = {name: q.clip.detach().clone() for name, q in weight_quantizers(model).items()}  # type: ignore[attr-defined]
    fit_clips(model, lambda name, quantizer: 3)
    for name, quantizer in weight_quantizers(model).items():
        assert isinstance(quantizer, Quantizer)
        axis = 1 if name == "wider" else 0
        rows = dense.get_submodule(name).weight.detach().movedim(axis, 0).flatten(1)  # type: ignore[operator,union-attr]
        expected = torch.tensor([best_clip(row, 3) for row in rows])
        torch.testing.assert_close(quantizer.clip.detach().flatten(), expected, rtol=0.011, atol=0)
        assert (quantizer.clip <= before[name]).all() and quantizer.bits() == 16
    with torch.no_grad():
        model.last.parametrizations.weight.original[1] = 0  # type: ignore[union-attr,index]
    clip = float(weight_quantizers(model)["last"].clip.detach()[1])  # type: ignore[attr-defined]
    fit_clips(model, lambda name, quantizer: 3)
    assert float(weight_quantizers(model)["last"].clip.detach()[1]) == clip  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", [{}, {"exponent": True}, {"gradient_scale": True}])
def test_together_and_one_by_one_are_the_same(settings: dict[str, Any]) -> None:
    x = torch.randn(2, *IMAGES)
    together = quantize(Net(), 4, per_channel=True, **settings)
    alone = copy.deepcopy(together)
    alone._forward_pre_hooks.clear()
    outputs = [model(x) for model in (together, alone)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for (name, a), b in zip(together.named_parameters(), alone.parameters(), strict=True):
        assert a.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("exponent", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_the_graph_is_that_of_the_float_network(exponent: bool, plain: bool) -> None:
    model = Net()
    expected = graphs(model)
    quantize(model, 4, per_channel=True, exponent=exponent)
    result = graphs(written_out(model) if plain else model)

    def facts(graph: Graph) -> list[Any]:
        return [
            (
                group.id,
                group.units,
                group.prunable,
                [(m.name, m.dim, m.role) for m in group.members if m.role != "quantizer"],
            )
            for group in graph.groups
        ]

    assert facts(result) == facts(expected)
    assert expected.prunable_units == 8 + 6 + 7


@pytest.mark.parametrize("traced", ["float", "quantized"])
def test_a_removed_channel_takes_its_bound_along(traced: str) -> None:
    dense = Net().eval()
    model = quantize(copy.deepcopy(dense), 4, per_channel=True).eval()
    graph = graphs(dense if traced == "float" else model)
    before = {name: q.clip.detach().clone() for name, q in weight_quantizers(model).items()}  # type: ignore[attr-defined]
    removed = {"first": [1, 6], "wider": [0], "last": [2, 3]}
    cx.zero_units(model, graph, {group.id: removed[group.id] for group in graph.prunable})
    small, report = cx.slim_report(model, graph)
    assert report.equality <= 1e-6 and not report.rebuilt
    for name, quantizer in weight_quantizers(small).items():
        axis = 1 if name == "wider" else 0
        lost = removed["first"] if name == "depth" else removed.get(name, [])
        stay = [index for index in range(before[name].shape[axis]) if index not in lost]
        assert torch.equal(quantizer.clip.detach(), before[name].index_select(axis, torch.tensor(stay)))  # type: ignore[attr-defined]
    assert small(torch.randn(2, *IMAGES)).shape == (2, 5)


# --- the packed file --------------------------------------------------------------------------------------------------


def test_the_packed_file_holds_a_step_for_each_channel_that_is_left(tmp_path: Path) -> None:
    dense = Net(spread=1.0).eval()
    graph = graphs(dense)
    model = quantize(copy.deepcopy(dense), 4, per_channel=True).eval()
    cx.zero_units(model, graph, {"first": [1, 6], "wider": [0, 1, 2, 3, 4], "last": [2]})
    small, cut = cx.slim_report(fold(model), graph)
    report = pack(small, tmp_path / "p", cut_weights(integer_weights(model), graph, cut.units))
    remaining = {"first": 6, "depth": 6, "wider": 1, "last": 6, "head": 5}
    assert report.scales == 4 * sum(remaining.values())
    unpacked, state = unpack(tmp_path / "p"), small.state_dict()
    assert list(unpacked) == list(state)
    assert all(torch.equal(unpacked[name], state[name]) for name in state)
    alone = loader()["weights"]((tmp_path / "p").read_bytes())
    assert all(torch.equal(alone[name].to(state[name].dtype), state[name]) for name in state)
    axes = {name: weight.axis for name, weight in integers(tmp_path / "p").items()}
    assert axes == {"first": 0, "depth": 0, "wider": None, "last": 0, "head": 0}
    assert {weight.bits for weight in integers(tmp_path / "p").values()} == {4}
    assert (tmp_path / "p").read_bytes()[6:8] == b"\x04\x00"


def test_one_step_for_a_weight_is_one_number(tmp_path: Path) -> None:
    model = quantize(Net(), 4).eval()
    assert pack(model, tmp_path / "p").scales == 4 * 5
    assert (tmp_path / "p").read_bytes()[6:8] == b"\x04\x00"
    alone = loader()["weights"]((tmp_path / "p").read_bytes())
    unpacked = unpack(tmp_path / "p")
    for name, value in fold(model).state_dict().items():
        assert torch.equal(unpacked[name], value) and torch.equal(alone[name].to(value.dtype), value)


def test_sizes_count_four_bytes_for_each_channels_step() -> None:
    dense = Net().eval()
    graph = graphs(dense)
    units = {"first": [1, 6], "last": [2]}
    counted = {}
    for per_channel in (False, True):
        model = quantize(copy.deepcopy(dense), 4, per_channel=per_channel).eval()
        cx.zero_units(model, graph, units)
        counted[per_channel] = sizes(model, graph)
        small = fold(cx.slim(model, graph))
        shapes = {name: p.shape for name, p in small.named_parameters()}
    codes = cut_weights(integer_weights(model), graph, units)
    coded = sum(entropy_bytes(weight.codes) for weight in codes.values())
    steps = 6 + 6 + 6 + 6 + 5
    assert output_axes(graph) == {"first": 0, "depth": 0, "wider": 1, "last": 0, "head": 0}
    weights = sum(math.prod(shape) for shape in shapes.values() if len(shape) > 1)
    others = sum(math.prod(shape) for shape in shapes.values() if len(shape) == 1)
    assert counted[True]["nominal_bytes"] == weights * 4 / 8 + 4 * others + 4 * steps
    assert counted[False]["nominal_bytes"] == weights * 4 / 8 + 4 * others + 4 * 5
    statistics = sum(buffer.numel() for name, buffer in small.named_buffers() if "running" in name)
    assert counted[True]["bytes"] == pytest.approx(coded + 4 * (others + statistics + steps))
    for field in ("bops", "macs", "bits"):
        assert counted[True][field] == counted[False][field]


# --- ONNX -------------------------------------------------------------------------------------------------------------


def test_onnx_has_a_scale_for_each_channel_along_its_axis() -> None:
    import onnx
    import onnxruntime

    from compression.export import program
    from compression.export.onnx_model import floats
    from compression.export.onnx_model import integers as with_integers

    model = quantize(Net(spread=0.5).eval(), 4, per_channel=True).eval()
    known, plain, x = integer_weights(model), fold(model), torch.randn(8, *IMAGES)
    with torch.no_grad():
        expected = plain(x)
    file = with_integers(floats(program.traced(plain, torch.zeros(2, *IMAGES))), known)
    assert {placed.layer: placed.channels for placed in file.weights} == dict.fromkeys(known, True)
    assert {placed.type for placed in file.weights} == {"int4"}
    read = onnx.load_from_string(file.data).graph
    held = {array.name: onnx.numpy_helper.to_array(array) for array in read.initializer}
    pairs = {n.input[0]: n for n in read.node if n.op_type == "DequantizeLinear"}
    for name, weight in known.items():
        node, axis = pairs[f"{name}.weight.codes"], 1 if name == "wider" else 0
        codes, scales = (held[each] for each in node.input[:2])
        stored = next(a.i for a in node.attribute if a.name == "axis")
        turned = codes.shape != tuple(weight.codes.shape)
        assert stored == (1 - axis if turned else axis)
        assert (turned, len(scales)) == (False, weight.codes.shape[axis]) or (name == "head" and turned)
        if name != "first":  # a batch norm is folded into it
            torch.testing.assert_close(torch.tensor(scales), torch.tensor(weight.steps), rtol=1e-6, atol=0)
    runner = onnxruntime.InferenceSession(file.data, providers=["CPUExecutionProvider"])
    output = torch.tensor(runner.run(None, {runner.get_inputs()[0].name: x.numpy()})[0])
    assert torch.equal(output.argmax(1), expected.argmax(1))
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
