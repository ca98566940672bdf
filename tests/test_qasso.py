"""QASSO: the optimizer against torch's own, the choice of units against brute force, and what it promises."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph import Code, Reason, parameter_map
from compression.graph.types import Graph, Group, Member
from compression.methods.geta import QASSO
from compression.methods.geta.joint import ETA, ZETA, forget_rate
from compression.methods.geta.schedule import Schedule, Stages
from compression.pruning import saliency
from compression.pruning.choose import UnitLimits, choose_units, target_units
from compression.pruning.criteria import CRITERIA
from compression.pruning.units import Units
from compression.quant import activation_quantizers, quantize, weight_quantizers
from tests.joint_rules import LayerTerm, step_sizes

TOTAL = 40
SCHEDULE = Schedule(warmup=0.1, projection=0.3, projection_periods=4, joint=0.4, pruning_periods=2)


class Net(nn.Module):
    """Two convolutions with norms, a hidden linear layer seen as four heads of three rows, and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(6, 12)
        self.out = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        out: torch.Tensor = self.out(self.hidden(x.mean((2, 3))).relu())
        return out


def rows(name: str, units: int, role: str = "producer", dim: int = 0, per_unit: int = 1, numel: int = 1) -> Member:
    """A member whose unit u owns the interleaved positions u, u + units, … (heads are not always neighbours)."""
    positions = torch.arange(units * per_unit).reshape(per_unit, units).T.contiguous()
    return Member(name, dim, role, numel, positions, buffer="running" in name)


def graph() -> Graph:
    def norm(name: str, units: int) -> list[Member]:
        trained = [rows(f"{name}.{part}", units, "norm") for part in ("weight", "bias")]
        return [*trained, *(rows(f"{name}.running_{part}", units, "norm") for part in ("mean", "var"))]

    first = [
        rows("conv1.weight", 8, numel=27),
        rows("conv1.bias", 8),
        *norm("bn1", 8),
        rows("conv2.weight", 8, "consumer", 1),
    ]
    second = [rows("conv2.weight", 6, numel=72), *norm("bn2", 6), rows("hidden.weight", 6, "consumer", 1)]
    heads = [rows("hidden.weight", 4, per_unit=3, numel=18), rows("hidden.bias", 4, per_unit=3, numel=3)]
    output = [rows("out.weight", 5, numel=12), rows("out.bias", 5)]
    groups = (
        Group("conv1", 8, True, None, True, (), tuple(first)),
        Group("conv2", 6, True, None, True, (), tuple(second)),
        Group("hidden", 4, True, None, True, (), tuple(heads)),
        Group("out", 5, False, Reason(Code.next_to_output), True, (), tuple(output)),
    )
    return Graph((), (), groups, (), (3, 8, 8), {})


N = 18


def gradients(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(16, 3, 8, 8, generator=generator), torch.randint(0, 5, (16,), generator=generator)
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()


def build(seed: int = 0, activations: bool = False, quantizers: bool = True) -> Net:
    torch.manual_seed(seed)
    model = Net()
    if quantizers:
        quantize(model, 16, torch.randn(4, 3, 8, 8) if activations else None)
    return model


def optimizer_of(model: nn.Module, **settings: Any) -> QASSO:
    defaults: dict[str, Any] = {"sparsity": 0.5, "schedule": SCHEDULE, "total_steps": TOTAL, "lr": 0.05}
    return QASSO(model, graph(), **{**defaults, **settings})


def train(model: nn.Module, optimizer: QASSO, steps: int = TOTAL) -> None:
    for index in range(steps):
        gradients(model, index)
        optimizer.step()


def zero_units(model: nn.Module) -> dict[str, list[int]]:
    """By hand: the units of which every producer and norm slice is exactly zero."""
    tensors = parameter_map(model)
    zeros = {}
    for group in graph().groups[:3]:
        members = [m for m in group.members if m.role != "consumer" and not m.buffer]
        zeros[group.id] = [
            unit
            for unit in range(group.units)
            if not any(tensors[m.name].index_select(m.dim, m.positions[unit]).count_nonzero() for m in members)
        ]
    return {name: units for name, units in zeros.items() if units}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# --- plain training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["sgd", "adam", "adamw"])
def test_without_quantizers_and_before_pruning_it_is_torchs_own_optimizer(variant: str) -> None:
    ours, theirs = build(quantizers=False), build(quantizers=False)
    settings: dict[str, Any] = {"weight_decay": 0.02, "lr": 0.01}
    peers = {
        "sgd": lambda p: torch.optim.SGD(p, momentum=0.9, **settings),
        "adam": lambda p: torch.optim.Adam(p, **settings),
        "adamw": lambda p: torch.optim.AdamW(p, **settings),
    }
    optimizer = optimizer_of(ours, variant=variant, total_steps=100, **settings)
    peer = peers[variant](theirs.parameters())
    schedulers = [torch.optim.lr_scheduler.StepLR(each, 3, 0.5) for each in (optimizer, peer)]
    for index in range(8):
        for model, each, scheduler in zip((ours, theirs), (optimizer, peer), schedulers, strict=True):
            generator = torch.Generator().manual_seed(index)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator) * 0.1
            each.step()
            scheduler.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["sgd", "adam", "adamw"])
def test_decay_reaches_weights_in_every_stage_and_scalars_never(variant: str) -> None:
    model = build()
    optimizer = optimizer_of(model, variant=variant, lr=1e-4, weight_decay=0.1, sparsity=0.3)
    untouched = parameter_map(model)["out.weight"]
    clips = [site.quantizer.clip for site in optimizer.bounds.sites]
    before = [clip.item() for clip in clips]
    for index in range(TOTAL):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        size = untouched.detach().norm().item()
        optimizer.step()
        assert untouched.detach().norm().item() < size, f"no decay at step {index + 1}"
    assert [clip.item() for clip in clips] == before


# --- stages and bit bounds --------------------------------------------------------------------------------------------


def test_stages_cover_the_run_and_periods_cover_the_joint_stage() -> None:
    for total in (30, 41, 224, 1000):
        stages = Stages.from_schedule(Schedule(0.1, 0.3, 3, 0.37, 5), total)
        names = [stages.stage(step) for step in range(1, total + 1)]
        assert [name for name, _ in itertools.groupby(names)] == ["warm-up", "projection", "joint", "cool-down"]
        assert {name: names.index(name) + 1 for name in names} == stages.starts()
        periods = [stages.period(step) for step in range(stages.ends["projection"] + 1, stages.ends["joint"] + 1)]
        expected = []
        for index, same in itertools.groupby(periods, key=lambda period: period.index):
            members = list(same)
            expected.append(index)
            assert [period.position for period in members] == list(range(1, len(members) + 1))
            assert {period.length for period in members} == {len(members)}
            assert members[-1].steps_to_shrink == 0
        assert expected == list(range(5))


def test_the_upper_bound_falls_exactly_b_times_and_is_reached_before_the_joint_stage() -> None:
    for periods, total in [(1, 40), (4, 40), (4, 57), (12, 40)]:
        schedule = Schedule(0.1, 0.3, periods, 0.4, 2)
        model = build()
        optimizer = optimizer_of(model, schedule=schedule, total_steps=total, bits=(4, 8), lr_quant=0.0)
        seen = []
        for index in range(total):
            gradients(model, index)
            optimizer.step()
            if optimizer.stage in ("warm-up", "projection"):
                seen.append(round(max(quantizer.bits() for quantizer in weight_quantizers(model).values()), 3))
        heights = [height for height, _ in itertools.groupby(seen)]
        assert heights == pytest.approx([16 - 8 * k / periods for k in range(periods + 1)], abs=2e-3)


def test_bits_are_whole_and_in_range_at_the_end_for_weights_and_activations_each_with_its_own_range() -> None:
    for variant, seed in itertools.product(("sgd", "adam", "adamw"), (0, 1)):
        model = build(seed, activations=True)
        own = {"conv2": {"weight_bits": [2, 3]}, "out": {"weight_bits": (9, 9), "activation_bits": (5.5, 6.5)}}
        optimizer = optimizer_of(
            model, variant=variant, lr=0.01, bits=(4, 8), activation_bits=(6, 7), layer_bits=own, lr_quant=0.01
        )
        train(model, optimizer)
        weights = {name: quantizer.bits() for name, quantizer in weight_quantizers(model).items()}
        activations = {name: quantizer.bits() for name, quantizer in activation_quantizers(model).items()}
        assert all(bits == round(bits) for bits in [*weights.values(), *activations.values()])
        assert weights.pop("conv2") in (2, 3)
        assert weights.pop("out") == 9
        assert activations.pop("out") == 6
        assert all(4 <= bits <= 8 for bits in weights.values())
        assert all(6 <= bits <= 7 for bits in activations.values())


def test_bits_stay_inside_the_bounds_throughout_the_joint_stage() -> None:
    model = build(activations=True)
    optimizer = optimizer_of(model, lr_quant=0.05)
    for index in range(TOTAL):
        gradients(model, index)
        optimizer.step()
        if optimizer.stage in ("joint", "cool-down"):
            for quantizer in [*weight_quantizers(model).values(), *activation_quantizers(model).values()]:
                assert 4 - 1e-3 <= quantizer.bits() <= 8 + 1e-3
                assert quantizer.step() > 0


# --- exactly K --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.56, 0.83])
def test_exactly_k_units_are_zero_and_stay_zero(variant: str, sparsity: float) -> None:
    for seed in (0, 1):
        model = build(seed)
        optimizer = optimizer_of(model, variant=variant, sparsity=sparsity, lr=0.01, weight_decay=1e-3)
        seen: dict[str, list[int]] = {}
        for index in range(TOTAL):
            gradients(model, index)
            for parameter in model.parameters():  # reaches removed units too, as a trunk without ReLU would
                assert parameter.grad is not None
                parameter.grad += 0.01 * torch.randn_like(parameter)
            optimizer.step()
            now = zero_units(model)
            assert all(set(units) <= set(now.get(name, ())) for name, units in seen.items())
            seen = now
        assert sum(map(len, seen.values())) == math.floor(sparsity * N + 1e-9) == optimizer.target.units
        assert seen == optimizer.removed_units
        assert all(len(units) < graph().group(name).units for name, units in seen.items())


def test_momentum_of_removed_units_is_zero() -> None:
    model = build()
    optimizer = optimizer_of(model)
    train(model, optimizer)
    tensors = parameter_map(model)
    for group in graph().groups[:3]:
        for unit in optimizer.removed_units.get(group.id, []):
            for member in group.members:
                if member.role != "consumer" and not member.buffer:
                    buffer = optimizer.state[tensors[member.name]]["momentum_buffer"]
                    assert not buffer.index_select(member.dim, member.positions[unit]).count_nonzero()


def test_group_bounds_are_kept_and_impossible_ones_refused() -> None:
    model = build()
    train(model, optimizer := optimizer_of(model, group_bounds={"conv1": (0.0, 0.25), "hidden": (0.5, 1.0)}))
    removed = {name: len(units) for name, units in zero_units(model).items()}
    assert sum(removed.values()) == optimizer.target.units == 9
    assert removed.get("conv1", 0) <= 2
    assert removed["hidden"] in (2, 3)
    for bounds, sparsity, message in [
        ({"conv1": (0.0, 0.1)}, 0.5, "only 0 to 8"),
        ({"conv1": (0.9, 1.0)}, 0.2, "no whole number in 0.9..1"),
        ({"nope": (0.0, 0.5)}, 0.2, "no prunable group 'nope'"),
        ({}, 0.95, "17 units are to be removed"),
    ]:
        with pytest.raises(CompressionError, match=message):
            optimizer_of(build(), group_bounds=bounds, sparsity=sparsity)


def test_the_target_is_not_misled_by_binary_fractions() -> None:
    assert [target_units(s, n) for s, n in [(0.29, 100), (0.35, 448), (0.5, 112), (0.0, 9), (0.7, 10)]] == [
        29,
        156,
        56,
        0,
        7,
    ]


def best_by_brute_force(scores: list[float], sizes: list[int], limits: UnitLimits, count: int) -> float:
    """Least total score over every set of ``count`` units within the limits."""
    group_of = [g for g, size in enumerate(sizes) for _ in range(size)]
    best = math.inf
    for chosen in itertools.combinations(range(len(scores)), count):
        taken = [sum(group_of[unit] == g for unit in chosen) for g in range(len(sizes))]
        if all(low <= t <= high for low, t, high in zip(limits.lowest, taken, limits.highest, strict=True)):
            best = min(best, sum(scores[unit] for unit in chosen))
    return best


def test_the_choice_of_units_is_the_best_of_all_choices() -> None:
    generator = torch.Generator().manual_seed(3)
    sizes = [3, 4, 2]
    group_of = [0, 0, 0, 1, 1, 1, 1, 2, 2]
    for limits in [
        UnitLimits((0, 0, 0), (2, 3, 1)),
        UnitLimits((1, 0, 1), (2, 1, 1)),
        UnitLimits((0, 3, 0), (2, 3, 1)),
    ]:
        for count in range(sum(limits.lowest), sum(limits.highest) + 1):
            scores = torch.rand(9, generator=generator)
            chosen = choose_units(scores, group_of, torch.zeros(9, dtype=torch.bool), limits, count, count)
            assert len(set(chosen)) == count
            best = best_by_brute_force(scores.tolist(), sizes, limits, count)
            assert float(scores[chosen].sum()) == pytest.approx(best)
            first = choose_units(scores, group_of, torch.zeros(9, dtype=torch.bool), limits, count, count // 2)
            removed = torch.zeros(9, dtype=torch.bool)
            removed[first] = True
            rest = choose_units(scores, group_of, removed, limits, count, count - len(first))
            assert len({*first, *rest}) == count
            assert best_by_brute_force(scores.tolist(), sizes, limits, count) < math.inf


# --- saliency ---------------------------------------------------------------------------------------------------------


def test_saliency_equals_naive_loops() -> None:
    model = build()
    units = Units(model, graph())
    tensors = parameter_map(model)
    torch.manual_seed(5)
    h = {parameter: torch.randn_like(parameter) for parameter in model.parameters()}
    columns: dict[str, list[float]] = {name: [] for name in CRITERIA}
    for group in graph().groups[:3]:
        for unit in range(group.units):
            xs, hs = [], []
            for member in group.members:
                if member.role == "consumer" or member.buffer:
                    continue
                parameter = tensors[member.name]
                xs.append(parameter.index_select(member.dim, member.positions[unit]).flatten())
                hs.append(h[parameter].index_select(member.dim, member.positions[unit]).flatten())  # type: ignore[index]
            x, direction = torch.cat(xs).detach().double(), torch.cat(hs).double()
            product = float((x @ direction).detach())
            columns["magnitude"].append(float(x.detach().norm()))
            columns["avg_magnitude"].append(float(x.norm()) / len(x))
            columns["rms_magnitude"].append(float(x.square().mean().sqrt()))
            columns["cosine_similarity"].append(product / float(x.norm() * direction.norm()) + 1)
            columns["taylor_first_order"].append(abs(product))
            columns["taylor_second_order"].append(0.5 * product**2)
            columns["movement"].append(-product)
    shares = {name: torch.tensor(column) / torch.tensor(column).norm() for name, column in columns.items()}
    naive = sum(0.2 * share for name, share in shares.items() if name not in ("rms_magnitude", "movement"))
    with torch.no_grad():
        sums = saliency.unit_sums(units, h)
    torch.testing.assert_close(saliency.scores(sums), naive, rtol=1e-4, atol=1e-6)
    for name, share in shares.items():
        torch.testing.assert_close(saliency.scores(sums, {name: 1.0}), share, rtol=1e-4, atol=1e-6)
    with pytest.raises(CompressionError, match="unknown saliency criterion 'size'"):
        optimizer_of(build(), criteria={"size": 1.0})


# --- the joint step ---------------------------------------------------------------------------------------------------


def test_the_joint_rules_descend_on_random_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    for trial in range(500):
        sizes = torch.randint(
            1, 40, (int(torch.randint(1, 4, (1,), generator=generator)),), generator=generator
        ).tolist()
        layers = [[torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(3)] for n in sizes]
        alpha = 10 ** float(torch.empty(1).uniform_(-4, 0, generator=generator))
        scale = 10 ** float(torch.empty(1).uniform_(-3, 1, generator=generator))
        h, c = torch.cat([part[0] * scale for part in layers]), torch.cat([part[1] for part in layers])
        residues = [part[2].clamp(-0.5, 0.5) for part in layers]
        pieces = h.split(sizes)
        h_squared = float(h @ h)
        remaining = 1 + trial % 7
        gamma = forget_rate(float(c @ h), float(c.norm()), h_squared, alpha, remaining)
        assert 0 <= gamma <= 1 / remaining
        preferred = [None if trial % 2 else float(torch.rand((), generator=generator)) / 5 for _ in sizes]
        terms = [LayerTerm(float(r @ p), 0.004, 0.14, w) for r, p, w in zip(residues, pieces, preferred, strict=True)]
        gamma, d = step_sizes(gamma, terms, h_squared, alpha)
        assert all(0.004 <= step <= term.target <= 0.14 for step, term in zip(d, terms, strict=True))
        move = torch.cat([step * r for step, r in zip(d, residues, strict=True)])
        direction = -alpha * h - gamma * (c + move)
        assert float(h @ direction) <= -ETA * (1 - ZETA) * alpha * h_squared * (1 - 1e-9)


def test_forgetting_is_complete_when_nothing_climbs_and_stops_at_nothing() -> None:
    share = 1.0
    for remaining in (4, 3, 2, 1):
        share *= 1 - forget_rate(0.3, 1.0, 1.0, 0.1, remaining)
    assert share == 0
    assert forget_rate(1.0, 0.0, 1.0, 0.1, 3) == 0
    values = torch.tensor([1.0, -1.0])
    assert forget_rate(0.0, float(values.norm()), 1.0, 0.1, 3) > 0, "judged by the norm, not by the mean"
    assert step_sizes(0.0, [LayerTerm(-1.0, 0.1, 0.4)], 1.0, 0.1) == (0.0, [0.4])
    assert step_sizes(0.5, [LayerTerm(0.2, 0.1, 0.4)], 1.0, 0.1) == (0.5, [0.4])


@pytest.mark.parametrize("variant", ["sgd", "adam", "adamw"])
def test_the_applied_joint_step_is_the_one_that_descends(variant: str) -> None:
    """Measured on the parameters themselves: <h, change of the redundant units> is what was decided, and in bounds."""
    model = build()
    optimizer = optimizer_of(model, variant=variant, lr=0.01, lr_quant=0.01)
    tensors = parameter_map(model)
    compared = 0
    for index in range(TOTAL):
        gradients(model, index)
        state = copy.deepcopy(optimizer.state_dict())
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        optimizer.step()
        committed = not optimizer.redundant
        if not optimizer.decisions or committed:
            continue
        h = direction_of(optimizer, variant, tensors, state)
        chosen = optimizer.units.split(optimizer.redundant)
        for decision, (number, units) in zip(optimizer.decisions, chosen.items(), strict=True):
            group = graph().group(optimizer.units[number].id)
            assert decision.group == group.id
            total = 0.0
            for member in group.members:
                if member.role != "consumer" and not member.buffer:
                    where = member.positions[units].flatten()
                    change = (tensors[member.name].detach() - before[member.name]).index_select(member.dim, where)
                    total += float((change * h[member.name].index_select(member.dim, where)).sum())
            assert total == pytest.approx(decision.descent, rel=1e-2, abs=1e-7)
            assert total <= decision.allowed * 0.99
            compared += 1
    assert compared > 10


def test_bits_between_the_bounds_result_where_the_inequality_asks_for_them() -> None:
    """By hand: gamma 1/2, alpha |h|^2 = 0.02, <r, h> = -0.4: d may be at most 0.9 * 0.999 * 0.02 / (0.5 * 0.4)."""
    top = 0.9
    lowest, highest = top / 127, top / 7
    _, (d,) = step_sizes(0.5, [LayerTerm(-0.4, lowest, highest)], 0.2, 0.1)
    assert d == pytest.approx(0.08991)
    assert 4 < math.log2(top / d + 1) + 1 < 8
    gamma, (d,) = step_sizes(0.5, [LayerTerm(-40.0, lowest, highest)], 0.2, 0.1)
    assert d == pytest.approx(lowest)
    assert gamma * d == pytest.approx(0.9 * 0.999 * 0.02 / 40), "gamma falls so that gamma d stays what is allowed"


@pytest.mark.parametrize(("rule", "highest_at_first", "lowest_at_last"), [
    ("largest", 4, 4), ("gradual", 8, 4), ("learned", 8, 8),
])  # fmt: skip
def test_the_rule_for_the_step_decides_where_nothing_climbs(
    rule: str, highest_at_first: int, lowest_at_last: int
) -> None:
    """Without gradients every step descends, so only the rule speaks; K and the range hold under each."""
    model = build()
    optimizer = optimizer_of(model, joint_steps=rule, schedule=Schedule(0.1, 0.3, 4, 0.4, 1))
    seen = []
    for _ in range(TOTAL):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        if optimizer.decisions:
            seen.append([layer.step for decision in optimizer.decisions for layer in decision.layers.values()])
            bits = [quantizer.bits() for quantizer in weight_quantizers(model).values()]
            assert min(bits) >= 4 - 1e-3 and max(bits) <= 8 + 1e-3
    layer = next(iter(optimizer.removed_units)) + ".weight"
    quantizer = weight_quantizers(model)[layer.removesuffix(".weight")]
    top = quantizer.clip.item()  # type: ignore[attr-defined]
    first, last = (math.log2(top / steps[0] + 1) + 1 for steps in (seen[0], seen[-1]))
    assert first == pytest.approx(highest_at_first, abs=0.4)
    assert last == pytest.approx(lowest_at_last, abs=0.4)
    assert sum(map(len, zero_units(model).values())) == 9
    with pytest.raises(CompressionError, match="joint_steps must be one of"):
        optimizer_of(build(), joint_steps="fast")


def direction_of(
    optimizer: QASSO, variant: str, tensors: Mapping[str, torch.Tensor], _: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    directions = {}
    for name, tensor in tensors.items():
        state = optimizer.state.get(tensor, {})
        if "momentum_buffer" in state:
            directions[name] = state["momentum_buffer"]
        elif "exp_avg" in state:
            first = state["exp_avg"] / (1 - 0.9**optimizer.steps_done)
            second = state["exp_avg_sq"] / (1 - 0.999**optimizer.steps_done)
            directions[name] = first / (second.sqrt() + 1e-8)
    return directions


def test_units_that_are_not_redundant_take_the_plain_step_in_the_joint_stage() -> None:
    """With no gradient at all, only redundant units move; the others' weights stay as they are."""
    model = build()
    optimizer = optimizer_of(model)
    first = optimizer.stages.starts()["joint"]
    train(model, optimizer, first - 1)
    for state in optimizer.state.values():
        state["momentum_buffer"].zero_()
    tensors = parameter_map(model)
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert optimizer.redundant
    moved = (tensors["conv1.weight"].detach() - before["conv1.weight"]).flatten(1).count_nonzero(1) > 0
    chosen = {optimizer.units[i].id: units.tolist() for i, units in optimizer.units.split(optimizer.redundant).items()}
    assert torch.nonzero(moved).flatten().tolist() == chosen.get("conv1", [])


# --- state, schedulers, bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [2, 10, 20, 23, 38])
def test_a_loaded_state_goes_on_as_if_never_stopped(stop: int) -> None:
    whole = build()
    train(whole, optimizer_of(whole, variant="adam", lr=0.01))
    half = build()
    optimizer = optimizer_of(half, variant="adam", lr=0.01)
    train(half, optimizer, stop)
    rest = build(seed=9)
    rest.load_state_dict(half.state_dict())
    resumed = optimizer_of(rest, variant="adam", lr=0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for index in range(stop, TOTAL):
        gradients(rest, index)
        resumed.step()
    for (name, a), b in zip(whole.state_dict().items(), rest.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert resumed.stage == "cool-down"


def test_closures_and_unused_parameters_are_understood() -> None:
    model = build()
    model.extra = nn.Parameter(torch.ones(3))
    optimizer = optimizer_of(model)

    def closure() -> float:
        gradients(model)
        return 1.25

    optimizer.step()  # without any gradient nothing changes, as with torch's own
    assert optimizer.step(closure) == 1.25
    assert torch.equal(model.extra, torch.ones(3))


def test_bad_input_is_refused_in_words() -> None:
    with pytest.raises(CompressionError, match="variant must"):
        optimizer_of(build(), variant="lion")
    with pytest.raises(CompressionError, match="sparsity"):
        optimizer_of(build(), sparsity=1.0)
    with pytest.raises(CompressionError, match=r"projection stage has 3 steps"):
        optimizer_of(build(), total_steps=10)
    with pytest.raises(CompressionError, match="joint stage has 4 steps"):
        optimizer_of(build(), schedule=Schedule(0.1, 0.5, 4, 0.1, 3))
    with pytest.raises(CompressionError, match=r"must not exceed 1, but is 1\.2"):
        optimizer_of(build(), schedule=Schedule(0.4, 0.4, 1, 0.4, 1), sparsity=0.0)
    with pytest.raises(CompressionError, match="above start_bits"):
        optimizer_of(build(), schedule=Schedule(start_bits=8), bits=(4, 10))
    with pytest.raises(CompressionError, match="no activation quantizer"):
        optimizer_of(build(), layer_bits={"conv1": {"activation_bits": (4, 8)}})
    with pytest.raises(CompressionError, match="trace this model again"):
        QASSO(nn.Linear(2, 2), graph(), sparsity=0.5, total_steps=TOTAL, lr=0.1)
    frozen = build()
    frozen.bn1.weight.requires_grad_(False)
    with pytest.raises(CompressionError, match="is frozen but belongs"):
        optimizer_of(frozen)
