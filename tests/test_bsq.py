"""BSQ against independent oracles: hand-made integers, finite differences, torch's optimizers, brute force, files."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError, RunFailed
from compression.graph import trace
from compression.methods.base import Setup
from compression.methods.bsq.narrow import choose_narrowings, narrowed, narrowings
from compression.methods.bsq.options import Limits, Plan, planes_by_layer, widest
from compression.methods.bsq.planes import gradient, joined, norms, requantize, rescaling, shrink, split
from compression.methods.bsq.state import BitPlanes, Widths
from compression.methods.bsq.strength import Controller, LayerCodes, choose_strength, pull
from compression.pack import pack
from compression.pack.container import rows
from compression.pack.rows import is_weight
from compression.points import Point
from compression.quant import integer_weights, quantize, weight_quantizers
from compression.training.setup import Reporter
from tests.contract.runs import network, setup

GENERATOR = np.random.default_rng(7)


def integers(count: int, planes: int) -> torch.Tensor:
    """Whole numbers of magnitude at most 2^planes - 1."""
    return torch.from_numpy(GENERATOR.integers(1 - 2**planes, 2**planes, count))


# Planes ---------------------------------------------------------------------------------------------------------------


def test_planes_are_the_binary_digits_of_both_parts() -> None:
    codes = integers(300, 7).view(3, 100)
    planes = split(codes, 7)
    assert planes.shape == (2, 7, 3, 100)
    for value, digits in zip(codes.flatten().tolist(), planes.flatten(2).permute(2, 0, 1).tolist(), strict=True):
        positive, negative = ("".join(str(int(bit)) for bit in reversed(side)) for side in digits)
        assert (int(positive, 2), int(negative, 2)) == (max(value, 0), max(-value, 0))
    assert torch.equal(joined(planes), codes.float())


def test_dead_planes_are_dropped_by_hand() -> None:
    """12 = 1100: of eight planes the leading four are empty, and the last two."""
    result = requantize(torch.tensor([4.0, -8.0, 12.0, 0.0, 4.0]), 8, 1, 8)
    assert (result.codes.tolist(), result.count, result.doublings) == ([1, -2, 3, 0, 1], 2, 2)
    above = requantize(torch.tensor([4.0, -8.0, 12.0, 0.0, 4.0]), 8, 3, 8)
    assert (above.codes.tolist(), above.count, above.doublings) == ([2, -4, 6, 0, 2], 3, 1)
    nothing = requantize(torch.zeros(5), 8, 1, 8)
    assert (nothing.codes.tolist(), nothing.count, nothing.doublings) == ([0] * 5, 1, 0)


def test_numbers_grow_by_a_plane_or_are_clamped() -> None:
    values = torch.tensor([9.4, -14.0, 1.0])
    assert requantize(values, 3, 1, 4).codes.tolist() == [9, -14, 1]
    clamped = requantize(values, 3, 1, 3)
    assert (clamped.codes.tolist(), clamped.count) == ([7, -7, 1], 3)


@pytest.mark.parametrize("lowest", [1, 3, 6])
def test_requantizing_leaves_every_weight_bit_for_bit(lowest: int) -> None:
    for planes in range(lowest, 9):
        for factor in (1, 2, 8):
            codes, step = integers(40, planes), GENERATOR.random()
            codes = codes.sign() * (codes.abs() // factor * factor)
            result = requantize(codes.double(), planes, lowest, 8)
            before, after = codes.double() * step, result.codes.double() * (step * 2**result.doublings)
            assert torch.equal(before, after)
            assert lowest <= result.count <= planes
            assert int(result.codes.abs().max()) < 2**result.count
            if result.count > lowest:
                assert bool((result.codes & 1).any()), "no empty plane is left at the bottom"
                assert int(result.codes.abs().max()) >= 2 ** (result.count - 1), "nor at the top"


def test_integers_times_four_lose_two_planes() -> None:
    codes = torch.cat([integers(60, 6), torch.tensor([63, 1])])
    plain, larger = requantize(codes.float(), 6, 1, 8), requantize(4 * codes.float(), 8, 1, 8)
    assert (plain.count, plain.doublings, larger.count, larger.doublings) == (6, 0, 6, 2)
    assert torch.equal(plain.codes, larger.codes)


def test_the_gradient_of_the_planes_is_straight_through() -> None:
    planes = (2 * torch.rand(2, 5, 4, 3, dtype=torch.float64)).requires_grad_()
    step, slope = torch.tensor(0.3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    value = sum((planes[0, i] - planes[1, i]) * 2**i for i in range(5))
    assert isinstance(value, torch.Tensor)
    (slope * step * (value + (value.round() - value).detach())).sum().backward()
    result = gradient(planes.detach(), step, slope)
    assert planes.grad is not None
    assert torch.allclose(result, planes.grad)
    assert torch.allclose(result[:, 1:], 2 * result[:, :-1]), "neighbouring planes as 1 to 2"


def test_pulling_goes_down_the_penalty() -> None:
    """The slope of Σ_i √(1e-8 + Σ p² + m²) by differences, on numbers that are no bits."""
    planes = GENERATOR.uniform(0.1, 1.9, (2, 4, 6))

    def penalty(values: Any) -> float:
        return float(sum(np.sqrt(1e-8 + (values[:, i] ** 2).sum()) for i in range(4)))

    numeric = np.zeros_like(planes)
    for index in np.ndindex(*planes.shape):
        around = [planes.copy(), planes.copy()]
        around[0][index] += 1e-6
        around[1][index] -= 1e-6
        numeric[index] = (penalty(around[0]) - penalty(around[1])) / 2e-6
    after = torch.from_numpy(planes.copy())
    assert float(norms(after).sum()) == pytest.approx(penalty(planes))
    shrink(after, 0.01)
    assert np.allclose((planes - after.numpy()) / 0.01, numeric, atol=1e-7)
    shrink(after, 1e9)
    assert not bool(after.any()), "no plane passes 0"


def test_the_scale_follows_in_least_squares() -> None:
    before = torch.randn(50, dtype=torch.float64)
    after = 0.7 * before + 0.05 * torch.randn(50, dtype=torch.float64)
    best = np.linalg.lstsq(after.numpy()[:, None], before.numpy(), rcond=None)[0]
    assert float(rescaling(before, after)) == pytest.approx(float(best[0]))
    assert float(rescaling(before, torch.zeros(50, dtype=torch.float64))) == 1


# Training -------------------------------------------------------------------------------------------------------------


def planes_on(
    layer: nn.Linear, bits: int, kind: str = "sgd", rate: float = 0.1, decay: float = 0.0, stage: int = 1
) -> BitPlanes:
    """The bit planes of one layer at ``bits`` bits, without a penalty."""
    model = quantize(nn.Sequential(layer))
    widths = Widths(model, {"0": bits}, None)
    return BitPlanes(model, widths, {"0": Limits(1, 8)}, Controller(0.0, 16.0), kind, rate, decay, stage)


@pytest.mark.parametrize(("kind", "decay"), [("sgd", 0.0), ("sgd", 0.3), ("adamw", 0.3)])
def test_weights_move_as_in_ordinary_training(kind: str, decay: float) -> None:
    """Planes away from their bounds: what the optimizer makes of the weights themselves; of adam the first step."""
    torch.manual_seed(1)
    state = planes_on(nn.Linear(9, 7).double(), 6, kind, 1e-4, decay)
    layer = state.layers[0]
    layer.planes.data = 0.5 + torch.rand(2, 5, 7, 9)
    layer.write()
    alone = nn.Parameter(layer.weight.detach().clone())
    usual: torch.optim.Optimizer
    if kind == "sgd":
        usual = torch.optim.SGD([alone], lr=1e-4, momentum=0.9, nesterov=True, weight_decay=decay)
    else:
        usual = torch.optim.AdamW([alone], lr=1e-4, weight_decay=decay)
    start = alone.detach().clone()
    for _ in range(6 if kind == "sgd" else 1):
        slope = torch.randn(7, 9, dtype=torch.float64)
        layer.weight.grad, alone.grad = slope.clone(), slope.clone()
        state.step(1.0, 0.0)
        usual.step()
    moved, expected = layer.weight.detach() - start, alone.detach() - start
    assert float((moved - expected).abs().max()) < 0.01 * float(expected.abs().max())


def test_the_scale_has_the_slope_of_all_weights_that_move_with_it() -> None:
    """dL/dq_m at fixed bits, by differences of the loss itself: weights are the δ-fold of whole numbers."""
    torch.manual_seed(2)
    state, target = planes_on(nn.Linear(6, 5, bias=False), 4), torch.randn(5, 6)
    layer = state.layers[0]
    layer.planes.data += 0.2 * torch.rand_like(layer.planes)
    layer.write()
    codes = layer.quantizer.codes(layer.weight)

    def loss(bound: torch.Tensor) -> torch.Tensor:
        return ((bound / 7) * codes - target).square().sum()

    bound = layer.quantizer.clip.detach().clone()
    numeric = float((loss(bound * 1.001) - loss(bound * 0.999)) / (0.002 * bound))
    (layer.quantizer(layer.weight) - target).square().sum().backward()
    state.step(0.0, 1e-5)
    assert float((bound - layer.quantizer.clip.detach()) / 1e-5) == pytest.approx(numeric, rel=0.02)


def test_planes_stay_between_nothing_and_two() -> None:
    state = planes_on(nn.Linear(8, 8), 5, rate=10.0)
    layer = state.layers[0]
    for sign in (1, -1):
        layer.weight.grad = sign * torch.ones(8, 8)
        state.step(1.0, 0.0)
        assert 0 <= float(layer.planes.detach().min()) <= float(layer.planes.detach().max()) <= 2
    layer.planes.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(RunFailed, match="diverged"):
        state.requantize(1.0, 1)


# How strong -----------------------------------------------------------------------------------------------------------


def test_the_strength_brings_the_average_where_it_is_planned() -> None:
    """Pulled in a hundred steps by the strength that was chosen, and by a little less; weights grow by a quarter."""
    codes = [torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in (500, 4000)]
    whole = [(each / each.abs().max() * 255).round().long() for each in codes]
    layers = [LayerCodes(torch.bincount(each.abs(), minlength=256).numpy(), 8, 1) for each in whole]
    strength = choose_strength(layers, 6.0, 0.25)

    def average(alpha: float) -> float:
        spent = 0
        for each in whole:
            planes = split(each, 8, torch.float64)
            for _ in range(100):
                shrink(planes, pull(alpha, 0.25, 8, len(each), 4500) / 100)
            spent += len(each) * (1 + requantize(1.25 * joined(planes), 8, 1, 8).count)
        return spent / 4500

    assert average(1.01 * strength) <= 6.0 < average(0.99 * strength)


def test_nothing_is_pulled_below_what_is_planned_or_asked_for() -> None:
    """By hand: two layers of 64 and 16 weights at 6 planes, an average of 7 bits."""
    model = quantize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)))
    with torch.no_grad():
        for index in range(2):
            model[index].parametrizations.weight.original[0, 0] = 1.0  # the largest number has the leading bit
    widths = Widths(model, {"0": 7, "1": 7}, None)
    limits = {name: Limits(1, 8) for name in "01"}
    state = BitPlanes(model, widths, limits, Controller(0.0, 2.0), "sgd", 0.1, 0.0, 10)

    def pulled(planned: float, average: float) -> list[bool]:
        before = [layer.planes.detach().clone() for layer in state.layers]
        state.controller.strength, state.controller.planned, state.controller.average = 1e-5, planned, average
        for layer in state.layers:
            layer.weight.grad = torch.zeros_like(layer.weight)
        state.step(1.0, 0.0)
        moved = [not torch.equal(layer.planes, old) for layer, old in zip(state.layers, before, strict=True)]
        for layer, old in zip(state.layers, before, strict=True):
            layer.planes.data = old
        return moved

    assert pulled(6.0, 4.0) == [True, True]
    assert pulled(7.0, 4.0) == [False, False], "the average is what is planned"
    assert pulled(6.5, 6.5) == [False, True], "the large layer would save 0.8, the small one saves 0.2"


def test_the_controller_corrects_itself_and_stops_at_the_average() -> None:
    layers = [LayerCodes(torch.bincount(integers(400, 6).abs(), minlength=64).numpy(), 6, 1)]
    controller = Controller(0.0, 4.0)
    controller.update(layers, 7.0, 0.5, 3)
    assert controller.planned == 6.0
    first = controller.strength
    controller.update(layers, 7.0, 0.5, 2)
    assert controller.gain == 2.0
    assert controller.strength > first > 0
    controller.update(layers, 4.0, 0.5, 1)
    assert controller.strength == 0
    fixed = Controller(0.005, 4.0)
    fixed.update(layers, 7.0, 0.5, 3)
    assert fixed.strength == 0.005


# The budget -----------------------------------------------------------------------------------------------------------


def test_fewer_planes_err_least_by_brute_force() -> None:
    sizes, steps = {"a": 12, "b": 30, "c": 7}, {"a": 0.3, "b": 0.1, "c": 1.7}
    codes = {name: integers(size, 5) for name, size in sizes.items()}
    options = {name: narrowings(each, 5, 1) for name, each in codes.items()}

    def error(name: str, halvings: int, count: int) -> float:
        """Each code to the nearest even, then into the range, number by number."""
        total = 0.0
        for code in codes[name].tolist():
            nearest = round(code / 2**halvings)  # Python's rounds to even
            bound = 2**count - 1
            total += (steps[name] * (max(-bound, min(bound, nearest)) * 2**halvings - code)) ** 2
        return total

    table = {
        (name, count): min(error(name, halvings, count) for halvings in range(6 - count))
        for name in codes
        for count in range(1, 6)
    }
    for budget in (49 * 3, 49 * 4 + 11, 49 * 6):
        best = min(
            sum(table[name, count] for name, count in zip(codes, counts, strict=True))
            for counts in itertools.product(range(1, 6), repeat=3)
            if sum(sizes[name] * (count + 1) for name, count in zip(codes, counts, strict=True)) <= budget
        )
        chosen = choose_narrowings(options, sizes, steps, budget)
        spent = sum(error(name, each.halvings, narrowed(codes[name], each).count) for name, each in chosen.items())
        assert spent == pytest.approx(best)
        assert sum(sizes[name] * (each.count + 1) for name, each in chosen.items()) <= budget


def test_bounds_that_need_more_than_the_average_are_refused() -> None:
    sizes = {"a": 10, "b": 30}
    assert planes_by_layer({"a": {"weight_bits": (5, 12)}}, sizes, 4) == {"a": Limits(4, 8), "b": Limits(1, 8)}
    assert planes_by_layer({"a": {"weight_bits": (11, 12)}}, sizes, 9)["a"] == Limits(10, 10)
    with pytest.raises(CompressionError, match="average"):
        planes_by_layer({"b": {"weight_bits": (5, 8)}}, sizes, 4)
    with pytest.raises(CompressionError, match="no layer 'c'"):
        planes_by_layer({"c": {"weight_bits": (5, 8)}}, sizes, 4)


def test_the_most_bits_of_a_layer_are_what_the_others_leave() -> None:
    """By counting through: layers of 10 and 30 weights at 3 bits on average."""
    limits = planes_by_layer({}, {"a": 10, "b": 30}, 3)
    fits = [(a, b) for a in range(2, 10) for b in range(2, 10) if 10 * a + 30 * b <= 3 * 40]
    assert widest(limits, {"a": 10, "b": 30}, 3) == {"a": max(a for a, _ in fits), "b": max(b for _, b in fits)}


def test_the_stages_of_a_run() -> None:
    assert Plan.from_shares(100, 0.6, 4) == Plan(60, 100, (15, 30, 45, 60))
    assert Plan.from_shares(3, 0.95, 4) == Plan(2, 3, (1, 2))
    assert Plan.from_shares(1, 0.6, 4) == Plan(0, 1, ())


# The run --------------------------------------------------------------------------------------------------------------


class Story(Reporter):
    """Points and decisions of a run."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.decisions: dict[int, dict[str, Any]] = {}

    def point(self, point: Point) -> None:
        self.points.append(point)

    def decision(self, step: int, **facts: Any) -> None:
        self.decisions[step] = facts


def budget(**changes: Any) -> Budget:
    usual: dict[str, Any] = {"bits": 4, "epochs": 0.75, "batch_size": 32, "precision": "fp32", "seed": 3, "lr": 0.02}
    return Budget(method="bsq", **{**usual, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 2.5},
        {"bits": 3.3, "optimizer": "adamw", "lr": 1e-3, "layers": {"conv1": {"weight_bits": (6, 7)}}},
        {"bits": 4, "epochs": 0.05},
        {"bits": 5, "options": {"strength": 1.0, "requantizations": 1, "ends": "eight"}},
        {"bits": 6, "activation_bits": 6, "options": {"strength": 1e-9}},
    ],
)
def test_the_file_never_has_more_bits_than_the_average(changes: dict[str, Any], tmp_path: Path) -> None:
    work = setup(budget(**changes))
    done = methods.get("bsq").run(work, Reporter())
    pack(done.model, tmp_path / "weights")
    weights = [(row, tensor) for row, tensor in rows(tmp_path / "weights") if is_weight(row)]
    sizes = [(tensor.numel(), row["bits"]) for row, tensor in weights]
    assert len(sizes) == len(work.graph.layers)
    assert all(bits == round(bits) >= 2 for _, bits in sizes)
    assert sum(size * bits for size, bits in sizes) <= changes["bits"] * sum(size for size, _ in sizes)
    for known in integer_weights(done.model).values():
        assert int(known.codes.abs().max()) < 2 ** (known.bits - 1)  # type: ignore[attr-defined]
    bits = {name: quantizer.bits() for name, quantizer in weight_quantizers(done.model).items()}
    if "layers" in changes:
        assert 6 <= bits["conv1"] <= 7
    if changes.get("options", {}).get("ends"):
        assert bits["conv1"] == bits["linear"] == 8


def test_every_requantization_is_a_point_whose_bits_fall() -> None:
    story = Story()
    done = methods.get("bsq").run(setup(budget(bits=3, epochs=1.5)), story)
    plan = Plan.from_shares(30, 0.6, 8)
    assert list(story.decisions) == list(plan.due)
    drawn = {point.step: {name: each["weight"] for name, each in point.bits.items()} for point in story.points}
    averages = [facts["average"] for facts in story.decisions.values()]
    for step, facts in story.decisions.items():
        assert drawn[step] == facts["bits"], "the picture of bits over time has a column for it"
    assert averages == sorted(averages, reverse=True)
    assert averages[0] < 9
    assert averages[-1] <= 3
    assert {name: each.bits() for name, each in weight_quantizers(done.model).items()} == drawn[plan.last] == drawn[30]


def test_without_penalty_and_steps_no_plane_dies() -> None:
    """The weights are those of 8 bits and a sign, rounded to nearest."""
    done = methods.get("bsq").run(setup(budget(bits=9, lr=1e-12)), Reporter())
    dense = dict(network().named_modules())
    for name, known in integer_weights(done.model).items():
        weight = dense[name].weight.detach().double()
        assert known.bits == 9
        codes = (weight / weight.abs().max() * 255).round()
        assert float((known.codes - codes).abs().max()) <= 1  # type: ignore[attr-defined]
        assert float((known.codes != codes).double().mean()) < 0.01  # type: ignore[attr-defined]


def test_a_weight_that_is_shared_or_not_trained() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(4)
            self.first, self.second, self.last = nn.Linear(144, 144), nn.Linear(144, 144), nn.Linear(144, 4)
            self.second.weight = self.first.weight
            self.fixed = nn.Linear(144, 144)
            self.fixed.weight.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.second(self.first(x.flatten(1)).relu()).relu()
            result: torch.Tensor = self.last(self.fixed(x).relu())
            return result

    model = Tied()
    frozen = model.fixed.weight.detach().clone()
    work = Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), setup(budget()).data, budget(bits=5))
    done = methods.get("bsq").run(work, Reporter())
    bits = {name: each.bits() for name, each in weight_quantizers(done.model).items()}
    assert bits["first"] == bits["second"]
    assert 20736 * (bits["first"] + bits["fixed"]) + 576 * bits["last"] <= 5 * (2 * 20736 + 576)
    weight = integer_weights(done.model)["fixed"].weight()
    assert float((weight - frozen).square().sum() / frozen.square().sum()) < 0.02, "rounded, not trained"
