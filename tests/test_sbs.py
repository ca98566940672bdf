"""Single-path bit sharing: the path against plain rounding, gates against differences, choices against brute force."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from compression import methods
from compression.asks import REMOVAL
from compression.budget import Budget
from compression.counting.cost import cost
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import slim, trace
from compression.methods.sbs.asks import ACTIVATION_BITS, WEIGHT_BITS, candidates
from compression.methods.sbs.choice import Offer, choose_bits, close_units
from compression.methods.sbs.gates import Gates, Scale, slope_of_gate
from compression.methods.sbs.operations import Operations
from compression.methods.sbs.options import Plan
from compression.methods.sbs.path import InputPath, WeightPath, chained, gate_steps, opened
from compression.methods.sbs.units import GatedUnits
from compression.methods.sbs.watch import InputWatch
from compression.pruning.units import Units
from compression.quant import activation_quantizers, fold, weight_quantizers
from compression.quant.attach import attach_ranges
from compression.quant.calibrate import InputRange
from compression.quant.midrise import MidriseQuantizer
from compression.quant.midrise import attach as attach_midrise
from compression.quant.quantizer import Quantizer
from compression.training.measure import measure
from compression.training.setup import Reporter
from tests.contract.runs import network, setup

WIDTHS = (2, 4, 8)
GATES = list(itertools.product([False, True], repeat=2))


# The path -------------------------------------------------------------------------------------------------------------


def published(z: np.ndarray, gates: tuple[bool, ...], widths: tuple[int, ...] = WIDTHS) -> np.ndarray:
    """ẑ as the paper has it: every offset is rounded on its own grid from what is missing."""
    step = [1 / (2**bits - 1) for bits in widths]
    grids = [step[0] * np.round(z / step[0])]
    offsets = []
    for each in step[1:]:
        offsets.append(each * np.round((z - grids[-1]) / each))
        grids.append(grids[-1] + offsets[-1])
    result = np.zeros_like(z)
    for gate, offset in reversed(list(zip(gates, offsets, strict=True))):
        result = gate * (offset + result)
    return grids[0] + result


@pytest.mark.parametrize("gates", GATES)
def test_a_path_is_the_plain_quantizer_at_the_bits_of_its_gates(gates: tuple[bool, ...]) -> None:
    torch.manual_seed(0)
    weight, bound = torch.randn(4000, dtype=torch.float64) * 0.4, 0.7
    quantizer = MidriseQuantizer(2 * bound / 255, 8).double()
    path = WeightPath(WIDTHS, quantizer)
    path.set_bits(opened(WIDTHS, gates))
    z = (weight.clamp(-bound, bound) / bound + 1) / 2
    expected = bound * (2 * published(z.numpy(), gates) - 1)
    assert np.abs(quantizer(weight).detach().numpy() - expected).max() < 1e-7
    assert float(path.clipped(torch.tensor([9.0], dtype=torch.float64))) == pytest.approx(bound), (
        "one bound for all bits"
    )
    x = torch.rand(4000, dtype=torch.float64) * 1.2
    inputs = Quantizer(bound, 8, unsigned=True).double()
    InputPath(WIDTHS, inputs).set_bits(opened(WIDTHS, gates))
    expected = bound * published((x / bound).clamp(max=1).numpy(), gates)
    assert np.abs(inputs(x).detach().numpy() - expected).max() < 1e-6


def test_offsets_and_metrics_of_a_path() -> None:
    torch.manual_seed(1)
    bound = 0.5
    path = WeightPath(WIDTHS, MidriseQuantizer(2 * bound / 15, 4))
    w, upstream = torch.empty(20_000).uniform_(-bound, bound), torch.randn(20_000)
    grids = {
        bits: bound * (2 * published((w / bound + 1).double().numpy() / 2, (True,) * 0, (bits,)) - 1) for bits in WIDTHS
    }
    wide = upstream.double().numpy()
    expected = [float(wide @ (grids[4] - grids[2])), float(wide @ (grids[8] - grids[4]))]
    assert path.offsets(w, upstream).tolist() == pytest.approx(expected, rel=1e-3)
    assert path.metrics(w).tolist() == pytest.approx([1.0, 3 / 15], rel=0.02), "evenly spread numbers: Δ/√12"
    inside = torch.cat([w, torch.tensor([3.0, -3.0])])
    assert torch.allclose(
        path.offsets(inside, torch.cat([upstream, torch.ones(2)])), path.offsets(w, upstream), atol=1e-4
    )
    assert not path.offsets(torch.zeros(5), torch.ones(5)).any(), "zero is on every grid"
    pair = WeightPath((4, 8), MidriseQuantizer(2 * bound / 255, 8))
    assert pair.metrics(w).tolist() == pytest.approx([3 / 15], rel=0.02)
    assert len(WeightPath((4,), MidriseQuantizer(0.1, 4)).offsets(w, upstream)) == 0


@pytest.mark.parametrize("gates", list(itertools.product([False, True], repeat=3)))
def test_gates_of_a_path_have_the_slopes_of_the_sum(gates: tuple[bool, ...]) -> None:
    """Differences of ẑ, which is linear in every single gate."""
    offsets = np.array([0.3, -0.7, 0.2])

    def value(each: list[float]) -> float:
        return each[0] * (offsets[0] + each[1] * (offsets[1] + each[2] * offsets[2]))

    plain = [float(gate) for gate in gates]
    slopes = [value([*plain[:j], 1.0, *plain[j + 1 :]]) - value([*plain[:j], 0.0, *plain[j + 1 :]]) for j in range(3)]
    assert (chained(gates).double() @ torch.from_numpy(offsets)).tolist() == pytest.approx(slopes)
    bits = (2, 4, 8, 16)
    assert opened(bits, gates) == 2 + value_of_bits(plain, gate_steps(bits).tolist())


def value_of_bits(gates: list[float], more: list[float]) -> float:
    return gates[0] * (more[0] + gates[1] * (more[1] + gates[2] * more[2]))


# What gates do to the loss --------------------------------------------------------------------------------------------


def small() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    attach_midrise(model, {"0": torch.tensor(0.8 / 15), "2": torch.tensor(0.9 / 15)}, {"0": 4, "2": 4})
    attach_ranges(model, {"2": InputRange(1.0, True)}, {"2": 4})
    return model.double(), torch.randn(9, 6).double(), torch.randn(9, 3).double()


def test_slopes_of_gates_are_those_of_the_loss_along_their_offsets() -> None:
    """The outputs are linear in the last layer, so that central differences along ε give ⟨dL/dẑ, ε⟩."""
    model, x, target = small()
    layer = model[2]
    inputs, quantizer = layer.input_quantizer, layer.parametrizations.weight[0]
    paths = WeightPath(WIDTHS, quantizer), InputPath(WIDTHS, inputs)
    shared = SimpleNamespace(names=("2",), inputs=(paths[1],))
    watch = InputWatch(model, [shared])  # type: ignore[list-item]
    model.train()
    watch.begin()
    ((model(x) - target) ** 2).sum().backward()
    watch.end()
    assert not layer._forward_pre_hooks or len(layer._forward_pre_hooks) == 1, "the quantizer's own hook alone remains"
    with torch.no_grad():
        hidden = model[1](model[0](x))
        weight, rounded = layer.parametrizations.weight.original, inputs(hidden)

        def loss(by_weight: torch.Tensor, by_input: torch.Tensor) -> float:
            out = (rounded + by_input) @ (quantizer(weight) + by_weight).T + layer.bias
            return float(((out - target) ** 2).sum())

        for kind, path, values in ((0, paths[0], weight), (1, paths[1], hidden)):
            for j, (fewer, more) in enumerate(itertools.pairwise(WIDTHS)):
                offset, none = path.value(values, more) - path.value(values, fewer), [torch.zeros(()).double()] * 2
                ends = []
                for size in (1e-4, -1e-4):
                    moved = list(none)
                    moved[kind] = offset * size
                    ends.append(loss(*moved))
                slope = (ends[0] - ends[1]) / 2e-4
                grad = layer.parametrizations.weight.original.grad
                seen = path.offsets(weight, grad)[j] if kind == 0 else watch.offsets([2], torch.zeros(0).double())[j]
                assert float(seen) == pytest.approx(slope, rel=2e-3, abs=1e-4)
    metrics = watch.metrics(torch.zeros(2), [2])
    assert torch.allclose(metrics, 0.1 * paths[1].metrics(hidden).float(), atol=1e-5)


def test_slopes_of_thresholds_are_those_of_the_sigmoid() -> None:
    distance = torch.linspace(-3, 3, 13).double()
    ends = [torch.sigmoid(distance + size) for size in (1e-5, -1e-5)]
    assert torch.allclose(slope_of_gate(distance), (ends[0] - ends[1]) / 2e-5, atol=1e-8)


def test_thresholds_move_with_what_gates_are_worth() -> None:
    """A gate whose opening lowers the loss gets a lower threshold, and twice as low where it matters twice as much."""
    metrics = torch.ones(3)
    gates = Gates(metrics, torch.arange(3), 3, 100, Scale(metrics.device))
    for _ in range(20):
        gates.learn(torch.tensor([-2.0, -1.0, 1.0]) * 1e-3)
    first, second, third = gates.thresholds.tolist()
    assert first < second < 0 < third
    assert 1.5 < first / second < 2.5
    other = Gates(metrics, torch.arange(3), 3, 100, Scale(metrics.device))
    for _ in range(20):
        other.learn(torch.tensor([-2.0, -1.0, 1.0]) * 1e3)
    assert torch.allclose(gates.thresholds, other.thresholds, atol=1e-5), "whatever the scale of the loss"
    again = Gates(metrics, torch.arange(3), 3, 100, Scale(metrics.device))
    again.load_state_dict(other.state_dict())
    assert torch.equal(again.margins, other.margins)
    grouped = Gates(torch.ones(4), torch.tensor([0, 0, 1, 1]), 2, 100, Scale(metrics.device))
    grouped.learn(torch.tensor([-1.0, -1.0, 2.0, 0.0]))
    assert grouped.thresholds[0] == pytest.approx(-float(grouped.thresholds[1]))


# Units behind gates ---------------------------------------------------------------------------------------------------


def test_closed_units_are_zero_keep_their_weights_and_may_come_back() -> None:
    model = network()
    steps = {
        name: torch.tensor(0.05) for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    attach_midrise(model, steps, dict.fromkeys(steps, 4))
    units = Units(model, graph)
    assert {type(piece.quantizer) for group in units for piece in group.slices} == {MidriseQuantizer, type(None)}
    gated = GatedUnits(units)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    closed = [0, 3, units[1].first]
    gated.close(closed)
    gated.cover()
    state = gated.state_dict()
    x, y = torch.randn(4, 1, 12, 12), torch.tensor([0, 1, 2, 3])
    loss = nn.functional.cross_entropy(model.train()(x), y)
    loss.backward()
    gated.uncover()
    slopes = gated.slopes()
    assert all(torch.equal(model.state_dict()[name], before[name]) for name, value in model.named_parameters())
    first = [piece.parameter for piece in units[0].slices if piece.parameter.grad is not None]
    expected = sum(float((each.detach() * each.grad).sum()) for each in first)
    open_units = [unit for unit in range(units[0].units) if unit not in closed]
    assert float(slopes[open_units].sum()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for parameter in {piece.parameter for group in units for piece in group.slices}:
        parameter.grad = torch.ones_like(parameter)  # behind a ReLU it would be 0 for closed units anyway
    gated.mask_gradients()
    for index, local in units.split(closed).items():
        for piece in units[index].slices:
            at = piece.indices(local)
            assert piece.parameter.grad is not None
            assert not piece.parameter.grad.index_select(piece.dim, at).any()
    opened_only = units[-1].slices[0].parameter.grad
    assert opened_only is not None and bool(opened_only.all()), "others get theirs"
    # Resumed: the network holds what is behind its gates, the part what was there
    gated.cover()
    other = GatedUnits(units)
    other.load_state_dict(state)
    other.uncover()
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert other.closed.nonzero().flatten().tolist() == sorted(closed)


def test_the_metric_of_units_is_their_mean_weight_over_that_of_their_group() -> None:
    model = network()
    units = Units(model, trace(model, torch.zeros(1, 1, 12, 12)))
    metrics = GatedUnits(units).metrics()
    group = units[0]
    pieces = [piece for piece in group.slices if piece.parameter.dim() > 1]
    rows = [piece.parameter.detach().abs().movedim(piece.dim, 0)[piece.positions] for piece in pieces]
    means = sum(row.flatten(1).sum(1) for row in rows)
    assert metrics[: group.units].tolist() == pytest.approx((means / means.mean()).tolist(), rel=1e-4)


# Bit operations and choices -------------------------------------------------------------------------------------------


def test_bit_operations_are_those_that_are_counted_and_have_their_slopes() -> None:
    model = network()
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    operations, rng = Operations(graph), np.random.default_rng(0)
    counts = [int(rng.integers(0, group.units)) for group in graph.prunable]
    weights, inputs = (rng.choice([2.0, 4.0, 8.0, 32.0], len(graph.layers)) for _ in range(2))
    removed = {group.id: count for group, count in zip(graph.prunable, counts, strict=True)}
    bits = {layer.name: (weights[i], inputs[i]) for i, layer in enumerate(graph.layers)}
    assert operations.total(counts, weights, inputs) == pytest.approx(cost(graph, removed, bits).bops, rel=1e-12)
    assert operations.dense == cost(graph).bops
    total = operations.total(counts, weights, inputs)
    of_weights, _, of_units = operations.slopes(counts, weights, inputs)
    for i in range(len(weights)):
        moved = weights.copy()
        moved[i] += 1e-4
        assert of_weights[i] == pytest.approx(
            (operations.total(counts, moved, inputs) - total) / total / 1e-4, rel=1e-3
        )
    for group in range(len(counts)):
        ends = [[*counts[:group], counts[group] + size, *counts[group + 1 :]] for size in (-1e-4, 1e-4)]
        more, fewer = (operations.total(end, weights, inputs) for end in ends)
        assert of_units[group] == pytest.approx((more - fewer) / 2e-4 / total, rel=1e-4, abs=1e-9)


def _offers(rng: np.random.Generator, layers: int) -> list[Offer]:
    return [
        Offer((i,), WIDTHS, (4, 8) if i % 2 else (32,), tuple(rng.normal(1, 1, 2)), tuple(rng.normal(1, 1, i % 2)))
        for i in range(layers)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.05, 0.3, 2.0])
def test_bits_are_worth_most_of_all_within_the_target(seed: int, share: float) -> None:
    """Against every configuration of four layers."""
    rng = np.random.default_rng(seed)
    offers, macs = _offers(rng, 4), [float(each) for each in rng.integers(10, 900, 4)]
    configurations = []
    for choice in itertools.product(*(itertools.product(o.weights, o.inputs) for o in offers)):
        worth = sum(
            sum(o.weight_worth[: o.weights.index(w)]) + sum(o.input_worth[: o.inputs.index(i)])
            for o, (w, i) in zip(offers, choice, strict=True)
        )
        configurations.append((sum(m * w * i for m, (w, i) in zip(macs, choice, strict=True)), worth, list(choice)))
    ends = min(configurations)[0], max(configurations)[0]
    target = ends[0] + share * (ends[1] - ends[0])
    chosen = choose_bits(offers, macs, target)
    reached = next(each for each in configurations if each[2] == chosen)
    assert reached[0] <= target
    assert reached[1] == pytest.approx(max(worth for operations, worth, _ in configurations if operations <= target))
    if share > 1:  # nothing binds: every path is what its own gates say
        for offer, (bits, _) in zip(offers, chosen, strict=True):
            sums = np.cumsum([0.0, *offer.weight_worth])
            assert bits == WIDTHS[int(sums.argmax())]
    with pytest.raises(CompressionError, match="bops: with the fewest bits"):
        choose_bits(offers, macs, 0.99 * ends[0])


def test_units_compete_with_bits_for_bit_operations() -> None:
    model = network()
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    operations = Operations(graph)
    group_of = [index for index, group in enumerate(graph.prunable) for _ in range(group.units)]
    highest = [group.units - 1 for group in graph.prunable]
    offers = [Offer((i,), WIDTHS, (8,), (1.0, 0.2), ()) for i in range(len(graph.layers))]
    worth = torch.rand(len(group_of), generator=torch.Generator().manual_seed(0)).tolist()
    target = 0.02 * operations.dense

    def removed(factor: float) -> list[int]:
        return close_units(operations, offers, [factor * each for each in worth], group_of, highest, target)

    few, many = removed(100.0), removed(0.001)
    assert len(few) < len(many)
    for units in (few, many):
        counts = np.bincount([group_of[unit] for unit in units], minlength=len(highest))
        assert all(count <= most for count, most in zip(counts, highest, strict=True))
        for group in range(len(highest)):  # of a group those worth least
            own = [unit for unit in range(len(group_of)) if group_of[unit] == group]
            removed_here = [unit for unit in own if unit in set(units)]
            least = sorted(own, key=worth.__getitem__)[: len(removed_here)]
            assert sorted(removed_here, key=worth.__getitem__) == least
    assert not close_units(operations, offers, worth, group_of, highest, operations.dense)


def test_the_search_ends_before_the_run_and_decides_on_its_last_step() -> None:
    for total, share in itertools.product((1, 2, 7, 40, 1000), (0.05, 0.5, 0.95)):
        plan = Plan.from_shares(total, share)
        assert 0 <= plan.last < total
        assert plan.last == 0 or plan.due(plan.last)
        assert plan.progress(plan.last) == 1.0
        assert 1 <= plan.every <= 10


# Asks -----------------------------------------------------------------------------------------------------------------


def test_bits_are_those_that_share_a_grid() -> None:
    assert candidates(3, 8) == (4, 8)
    assert WEIGHT_BITS.accept((3, 6)) == (3, 6)
    assert WEIGHT_BITS.layer_limits({"weight_bits": (3, 6)}, {}, "x") == (4, 4)
    assert WEIGHT_BITS.value({"bits": 5}) == (4, 8)
    assert WEIGHT_BITS.nearest({"weight_bits": (3, 3)}) == (2, 4)
    assert WEIGHT_BITS.nearest({"weight_bits": (12, 16)}) == (8, 8)
    assert ACTIVATION_BITS.nearest({"activation_bits": 6}) == (4, 8)
    assert ACTIVATION_BITS.accept(None) is None
    assert WEIGHT_BITS.nearest_bound((5, 6)) == (4, 8)
    for ask in (WEIGHT_BITS, ACTIVATION_BITS):
        with pytest.raises(CompressionError, match=rf"{ask.field}: none of the bit-widths 2, 4 and 8.* such as 4:8"):
            ask.accept((5, 7))
        with pytest.raises(CompressionError, match=rf"{ask.field} must lie in 2..8"):
            ask.accept((2, 9))
        with pytest.raises(CompressionError, match=rf"layers.linear.{ask.field}: none"):
            ask.check_bounds({ask.field: (2, 8)}, {"linear": {ask.field: (3, 3)}})


def test_what_it_cannot_is_refused_in_one_line() -> None:
    method, model = methods.get("sbs"), network()
    subject = Subject(model, trace(model, torch.zeros(1, 1, 12, 12)))
    for asks, reason in (
        ({"bops": 0.99999, "weight_bits": (2, 8), "activation_bits": (2, 8)}, "at most 99.9 % can be"),
        ({"bops": 0.9999, "weight_bits": (8, 8)}, "fewer bits"),
        ({"sparsity": 0.999}, "can be: choose a sparsity"),
    ):
        with pytest.raises(CompressionError, match=reason) as error:
            method.check(setup(Budget(method="sbs", epochs=1, asks=asks)))
        assert "\n" not in str(error.value)
        with pytest.raises(CompressionError):
            method.forecast(subject, Budget(method="sbs", asks=asks))
    with pytest.raises(CompressionError, match="mean_bits"):
        method.check_budget(Budget(method="sbs", asks={"bops": 0.9}, options={"mean_bits": 4}))
    with pytest.raises(CompressionError, match="no layer 'nowhere'"):
        method.check(setup(Budget(method="sbs", epochs=1, asks={}, layers={"nowhere": {"weight_bits": (2, 4)}})))


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asks", "options"),
    [
        ({"bops": 0.985, "activation_bits": (2, 8)}, {}),
        ({"bops": 0.985, "activation_bits": (2, 8)}, {"strength": 0.3}),
        ({"sparsity": 0.37, "activation_bits": (4, 8)}, {"mean_bits": 5.0}),
        ({"macs": 0.4, "weight_bits": (2, 4)}, {}),
    ],
)
def test_a_run_meets_its_bit_operations_and_counts_of_units(asks: dict, options: dict) -> None:
    work = setup(Budget(method="sbs", epochs=2, batch_size=32, seed=2, precision="fp32", asks=asks, options=options))
    graph, method = work.graph, methods.get("sbs")
    method.check(work)
    done = method.run(work, Reporter())
    removed = done.facts["removed_units"]
    assert sum(map(len, removed.values())) == done.facts["removed"]
    assert all(len(units) < graph.group(name).units for name, units in removed.items())
    widths = {name: quantizer.bits() for name, quantizer in weight_quantizers(done.model).items()}
    assert set(widths.values()) <= set(candidates(*asks.get("weight_bits", (2, 8))))
    point = measure(work, done.model, step=0, epoch=0.0, phase="end")
    if "bops" in asks:
        assert point.rel_bops <= 1 - asks["bops"]
        if not options:
            assert point.rel_bops > 0.7 * (1 - asks["bops"]), "what is asked for is used"
    elif "macs" in asks:
        assert point.macs <= (1 - asks["macs"]) * graph.macs
    else:
        assert done.facts["removed"] == int(0.37 * graph.prunable_units)
        equal = {layer.name: (5.0, 6.0) for layer in graph.layers}
        assert point.bops <= cost(graph, removed, equal).bops * 5 / 6
    # Cut, the network computes what it computed masked
    small = slim(fold(done.model.eval()), graph)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 1, 12, 12))).float()
    with torch.no_grad():
        assert torch.allclose(small(x), done.model(x), atol=1e-4)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in network().parameters()) or not removed


def test_a_run_of_one_step_decides_without_a_search() -> None:
    asks = {"bops": 0.98, "activation_bits": (2, 8)}
    work = setup(Budget(method="sbs", epochs=0.01, batch_size=32, precision="fp32", asks=asks))
    done = methods.get("sbs").run(work, Reporter())
    assert done.facts["stages"] == {"fine-tuning": 0}
    assert measure(work, done.model, step=0, epoch=0.0, phase="end").rel_bops <= 0.02


def test_the_first_and_the_last_layer_get_eight_bits() -> None:
    """Where bounds of single layers do not say otherwise; in the forecast and in the run."""
    asks, layers = {"weight_bits": (2, 4), "activation_bits": (4, 4)}, {"linear": {"weight_bits": (3, 6)}}
    work = setup(Budget(method="sbs", epochs=0.2, batch_size=32, asks=asks, layers=layers, options={"ends": "eight"}))
    forecast = methods.get("sbs").forecast(Subject(work.model, work.graph), work.budget)
    limits = {layer.name: layer.bits for layer in forecast.layers}
    assert (limits["conv1"], limits["linear"], limits["layer1.0.conv1"]) == ((8, 8), (4, 4), (2, 4))
    model = methods.get("sbs").run(work, Reporter()).model
    bits = {name: quantizer.bits() for name, quantizer in weight_quantizers(model).items()}
    assert (bits["conv1"], bits["linear"]) == (8, 4)
    assert set(bits.values()) <= {2, 4, 8}
    inputs = {name: round(quantizer.bits()) for name, quantizer in activation_quantizers(model).items()}
    assert inputs == {name: 8 if name in ("conv1", "linear") else 4 for name in bits}


def test_layers_that_share_a_weight_have_equal_bits() -> None:
    from compression.methods.sbs.layers import attach, layer_candidates
    from compression.methods.sbs.options import SbsOptions

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).relu())

    model = Tied()
    budget = Budget(method="sbs", asks={"activation_bits": (2, 8)}, layers={"second": {"weight_bits": (4, 4)}})
    (layer,) = attach(model, budget, SbsOptions(), torch.randn(5, 6), frozenset())
    assert (layer.names, layer.weight.candidates, len(layer.inputs)) == (("first", "second"), (4,), 2)
    bounds = {"first": {"weight_bits": (8, 8)}, "second": {"weight_bits": (4, 4)}}
    with pytest.raises(CompressionError, match=r"layers\.first\.weight_bits: first and second share one weight"):
        layer_candidates(WEIGHT_BITS, Budget(method="sbs", layers=bounds), Tied())


def test_its_asks_are_those_of_removal_and_bits() -> None:
    assert methods.get("sbs").asks[:3] == REMOVAL


def test_geta_refuses_a_grid_that_has_no_range() -> None:
    from compression.methods.geta import QASSO

    model = network()
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    steps = {layer.name: torch.tensor(0.05) for layer in graph.layers}
    attach_midrise(model, steps, dict.fromkeys(steps, 4))
    with pytest.raises(CompressionError, match="carries a MidriseQuantizer"):
        QASSO(model, graph, sparsity=0.5, bits=(4, 8), total_steps=50, lr=0.1)
