"""The baselines: rounding to nearest, magnitude pruning, prune-then-quantize; each against a plain recomputation."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compression import methods, runs
from compression.asks import EqualBits
from compression.budget import Budget
from compression.errors import Cancelled, CompressionError
from compression.forecast import Subject
from compression.graph import slim_report, trace, zeroed_units
from compression.methods.base import Reporter, Setup
from compression.methods.magnitude import MAGNITUDE
from compression.methods.ptq import PTQ
from compression.methods.sequential import SEQUENTIAL
from compression.methods.sequential.options import Plan
from compression.points import Point
from compression.pruning.removal import Removal
from compression.pruning.target import UnitCount
from compression.quant import activation_quantizers, integer_weights, quantize, weight_quantizers
from compression.quant.fixed_bits import FixedBits
from compression.quant.op import fake_quantize
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.store import Store
from compression.runs.submit import new_spec
from compression.training.loop import total_steps
from compression.zoo import build
from tests.stripes import striped

BASELINES = ("magnitude", "ptq", "sequential")


class Story(Reporter):
    """A reporter that keeps everything; ``stop`` asks for cancelling after so many steps."""

    def __init__(self, stop: int | None = None) -> None:
        self.phases: list[tuple[str, int]] = []
        self.points: list[Point] = []
        self.steps: list[int] = []
        self.logs: list[str] = []
        self.total, self.stop = 0, stop

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        self.phases.append((name, step))

    def plan(self, total_steps: int, **facts: Any) -> None:
        self.total = total_steps

    def step(self, step: int, epoch: float, **values: float) -> None:
        self.steps.append(step)

    def point(self, point: Point) -> None:
        self.points.append(point)

    def log(self, message: str) -> None:
        assert "\n" not in message
        self.logs.append(message)

    def check(self) -> None:
        if self.stop is not None and len(self.steps) >= self.stop:
            raise Cancelled("asked to stop")


DATA = striped()


def task(method: str, **changes: Any) -> Setup:
    """An untrained resnet8 for small images, the budget of three epochs."""
    torch.set_num_threads(1)
    model = build("resnet8", input=(1, 12, 12), classes=4, seed=0).eval()
    budget = Budget(method=method, epochs=3, batch_size=32, precision="fp32", sparsity=0.5)
    return Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), DATA, budget.replace(**changes))


def weights_of(model: nn.Module) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Layer → its raw weight, whatever sits on it."""
    errors = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            on = getattr(module, "parametrizations", None)
            raw = on.weight.original if on is not None else module.weight
            errors[name] = raw.detach().numpy().copy()
    return errors


# Rounding to nearest --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_weight_goes_to_the_nearest_value(bits: int) -> None:
    work = task("ptq", bits=bits, options={"clip": "max"})
    dense = weights_of(work.model)
    done = PTQ.run(work, Story())
    levels = 2 ** (bits - 1) - 1
    for name, integer in integer_weights(done.model).items():
        step = np.abs(dense[name]).max() / levels
        assert integer.bits == bits
        assert integer.step == pytest.approx(step, rel=1e-6)
        away = np.abs(dense[name] - integer.weight().numpy())
        assert away.max() <= step * 0.5001
        assert np.abs(integer.codes.numpy()).max() == levels


def test_the_step_of_least_error_beats_every_other(bits: int = 3) -> None:
    work = task("ptq", bits=bits)
    dense, levels = weights_of(work.model), 2 ** (bits - 1) - 1
    done = PTQ.run(work, Story())
    layers = {layer["name"]: layer for layer in done.facts["allocation"]["layers"]}
    for name, integer in integer_weights(done.model).items():
        weight = dense[name].astype(np.float64)
        error = ((weight - integer.weight().numpy()) ** 2).sum()
        steps = np.linspace(0.05, 1.0, 400) * np.abs(weight).max() / levels
        others = [((weight - s * np.clip(np.rint(weight / s), -levels, levels)) ** 2).sum() for s in steps]
        assert error <= min(others) * (1 + 1e-6)
        assert layers[name]["error"] == pytest.approx(error, rel=1e-4)
        largest = steps[-1]
        assert error < 0.9 * ((weight - largest * np.clip(np.rint(weight / largest), -levels, levels)) ** 2).sum()


def test_rounding_trains_nothing_and_reports_what_it_does_not_use() -> None:
    work, story = task("ptq", bits=4.5, groups={"conv1": {"sparsity": [0.1, 0.2]}}), Story()
    before = weights_of(work.model)
    done = PTQ.run(work, story)
    after = weights_of(done.model)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert story.steps == list(range(1, 11)), "layers"
    assert {q.bits() for q in weight_quantizers(done.model).values()} == {4.0}
    assert PTQ.unused(work.budget) == ["sparsity", "groups"]
    assert re.findall(r"\d+", PTQ.describe(work.budget)) == ["4"]
    assert [name for name, _ in story.phases] == ["calibration", "rounding", "statistics"]
    assert [point.step for point in story.points] == [0, 11], "nothing is trained: measured at its start and end"
    widths = [len([b for b in point.bits.values() if b["weight"] == 4]) for point in story.points]
    assert widths == [0, 10]
    assert zeroed_units(done.model, work.graph) == {}


def test_statistics_are_recomputed_only_when_asked_for() -> None:
    def mean(statistics: bool) -> torch.Tensor:
        done = PTQ.run(task("ptq", options={"statistics": statistics}), Story())
        return next(m.running_mean for m in done.model.modules() if isinstance(m, nn.BatchNorm2d))

    dense = next(m.running_mean for m in task("ptq").model.modules() if isinstance(m, nn.BatchNorm2d))
    assert torch.equal(mean(False), dense)
    assert not torch.allclose(mean(True), dense)


def test_a_layers_own_bounds_come_first_and_activations_follow_theirs() -> None:
    layers = {"conv1": {"weight_bits": [6, 8]}, "linear": {"weight_bits": [2, 3], "activation_bits": [5, 5]}}
    for method in (PTQ, SEQUENTIAL):
        work = task(method.info.name, bits=4, weight_bits=(3, 4), activation_bits=(4, 8), layers=layers, epochs=1)
        done = method.run(work, Story())
        widths = {name: quantizer.bits() for name, quantizer in weight_quantizers(done.model).items()}
        assert (widths.pop("conv1"), widths.pop("linear"), set(widths.values())) == (6, 3, {4})
        inputs = {name: quantizer.bits() for name, quantizer in activation_quantizers(done.model).items()}
        assert (inputs.pop("linear"), set(inputs.values())) == (5, {8})


# Magnitude ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.3, 0.613])
def test_the_smallest_weights_of_the_network_go_and_no_other(sparsity: float) -> None:
    work = task("magnitude", sparsity=sparsity, bits=3, epochs=1)
    dense = weights_of(work.model)
    done = MAGNITUDE.run(work, Story())
    everything = np.sort(np.abs(np.concatenate([w.ravel() for w in dense.values()])))
    count = round(sparsity * len(everything))
    codes = {name: integer.codes.numpy() for name, integer in integer_weights(done.model).items()}
    assert sum(int((c == 0).sum()) for c in codes.values()) == count
    bar = everything[count - 1]
    assert all(np.array_equal(codes[name] == 0, np.abs(weight) <= bar) for name, weight in dense.items())
    assert {q.bits() for q in weight_quantizers(done.model).values()} == {3.0}
    assert all(int(np.abs(c).max()) <= 3 for c in codes.values())


def test_within_each_layer_all_lose_one_share() -> None:
    work = task("magnitude", options={"scope": "layer"}, sparsity=0.6, epochs=0.2)
    dense = weights_of(work.model)
    done = MAGNITUDE.run(work, Story())
    for name, integer in integer_weights(done.model).items():
        zeros = integer.codes.numpy() == 0
        assert abs(zeros.sum() - 0.6 * zeros.size) <= 1
        assert np.abs(dense[name][zeros]).max() <= np.abs(dense[name][~zeros]).min()


def test_magnitude_reports_its_stages_and_learns() -> None:
    work, story = task("magnitude", lr=0.1, groups={"conv1": {"sparsity": [0, 0.2]}}), Story()
    MAGNITUDE.run(work, story)
    assert [name for name, _ in story.phases] == ["allocation", "statistics", "fine-tuning"]
    assert story.steps == list(range(1, 61))
    assert len(story.points) >= 20
    assert story.points[-1].score > 0.5
    assert {point.weight_sparsity for point in story.points} == {story.points[0].weight_sparsity}
    assert MAGNITUDE.unused(work.budget) == ["groups"]


# Prune, then quantize -------------------------------------------------------------------------------------------------


def test_exactly_the_units_asked_for_within_the_bounds_of_groups() -> None:
    groups = {"conv1": {"sparsity": [0.0, 0.25]}, "layer3.0.conv1": {"sparsity": [0.75, 0.75]}}
    work = task("sequential", sparsity=0.51, groups=groups, weight_bits=(4, 6.5), activation_bits=(4, 8))
    done = SEQUENTIAL.run(work, Story())
    removed = zeroed_units(done.model, work.graph)
    assert sum(map(len, removed.values())) == math.floor(0.51 * work.graph.prunable_units) == done.facts["removed"]
    assert removed == done.facts["removed_units"]
    assert len(removed.get("conv1", ())) <= 2
    assert len(removed["layer3.0.conv1"]) == 24
    assert {q.bits() for q in weight_quantizers(done.model).values()} == {6.0}
    assert {q.bits() for q in activation_quantizers(done.model).values()} == {8.0}
    _, report = slim_report(done.model.eval(), work.graph)
    assert report.equality <= 1e-5


def test_the_stages_take_as_many_steps_as_a_joint_run() -> None:
    work, story = task("sequential", lr=0.1), Story()
    SEQUENTIAL.run(work, story)
    assert story.total == total_steps(DATA, 32, 3)
    assert story.steps == list(range(1, story.total + 1))
    assert story.phases == [("pruning", 0), ("fine-tuning", 15), ("quantization", 30)]
    assert len(story.points) >= 20
    shares = [point.unit_sparsity for point in story.points]
    assert shares == sorted(shares)
    assert {0.125, 0.25, 0.375, 0.5} == set(shares), "four equal rounds"
    assert all(bool(point.bits) == (point.step > 30) for point in story.points)
    widths = {width["weight"] for point in story.points for width in point.bits.values()}
    assert widths == {8.0}, "whole at every moment"
    assert story.points[-1].score > 0.6


@pytest.mark.parametrize("norm", ["none", "group"])
def test_the_units_of_least_magnitude_go(norm: str) -> None:
    work = task("sequential")
    with torch.no_grad():
        for parameter in work.model.parameters():
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    sizes: list[tuple[float, str, int]] = []
    parameters = dict(work.model.named_parameters())
    for group in work.graph.prunable:
        squares, count = np.zeros(group.units), 0
        for member in group.zeroed_members:
            rows = np.moveaxis(parameters[member.name].detach().double().numpy(), member.dim, 0)
            rows = rows[member.positions.numpy()].reshape(group.units, -1)
            squares, count = squares + (rows**2).sum(1), count + rows.shape[1]
        values = np.sqrt(squares / count)
        values = values / values.mean() if norm == "group" else values
        sizes += [(value, group.id, unit) for unit, value in enumerate(values)]
    removal = Removal(work.model, work.graph, UnitCount.of_share(0.2, work.graph.prunable_units), {}, norm)
    assert sum(map(len, removal.prune(1, 1).values())) == 22
    removed: dict[str, list[int]] = {}
    for _, group_id, unit in sorted(sizes)[:22]:
        removed.setdefault(group_id, []).append(unit)
    assert removal.units.named_units(removal.removed) == {name: sorted(units) for name, units in removed.items()}
    assert zeroed_units(work.model, work.graph) == removal.units.named_units(removal.removed)


def test_steps_follow_their_clipping_bounds() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5))
    quantize(model, 8)
    held = FixedBits(model, {"0": 3}, None)
    quantizer = weight_quantizers(model)["0"]
    with torch.no_grad():
        quantizer.clip.mul_(0.4)
    held.hold()
    weight, upstream = model[0].parametrizations.weight.original.detach(), torch.randn(5, 6)
    bound = quantizer.clip.detach().clone().requires_grad_()
    (fake_quantize(weight, bound / 3, bound) * upstream).sum().backward()
    assert bound.grad is not None
    (model[0].weight * upstream).sum().backward()
    before = quantizer.clip.item()
    held.step(0.01)
    assert quantizer.clip.item() == pytest.approx(before - 0.01 * bound.grad.item(), rel=1e-5)
    assert quantizer.clip.item() != before
    assert quantizer.bits() == 3.0
    held.step(1e9)
    assert quantizer.clip.item() > 0, "no gradient, no change"
    (model[0].weight * upstream).sum().backward()
    last = quantizer.clip.item()
    held.step(1e9)
    assert quantizer.clip.item() in (pytest.approx(0.9 * last, rel=1e-5), pytest.approx(1.1 * last, rel=1e-5))


@pytest.mark.parametrize("total", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_run_of_any_length_has_its_stages(total: int, share: float) -> None:
    plan = Plan.from_shares(total, share, 4)
    starts = list(plan.starts().values())
    assert 0 <= plan.pruned <= plan.tuned < plan.total == total
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    rounds = [plan.round_at(step) for step in range(total)]
    assert rounds == sorted(rounds)
    assert rounds[-1] == plan.rounds
    if plan.pruned >= 4:
        assert rounds[:1] == [1]
        assert sorted(set(rounds)) == [1, 2, 3, 4]


def test_one_step_is_enough_to_keep_the_promise() -> None:
    work = task("sequential", epochs=0.01)
    done = SEQUENTIAL.run(work, Story())
    assert sum(map(len, zeroed_units(done.model, work.graph).values())) == 56
    assert {q.bits() for q in weight_quantizers(done.model).values()} == {8.0}


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_removed_units_stay_zero_under_momentum_and_decay(optimizer: str) -> None:
    work = task("sequential", optimizer=optimizer, weight_decay=0.1, epochs=1, lr=0.01)
    done = SEQUENTIAL.run(work, Story())
    assert sum(map(len, zeroed_units(done.model, work.graph).values())) == 56


# All of them ----------------------------------------------------------------------------------------------------------


def test_they_are_found_by_name_and_say_what_they_are() -> None:
    registered = methods.all_methods()
    assert set(BASELINES) <= set(registered)
    for name in BASELINES:
        method = registered[name]
        assert method.info.name == name
        assert isinstance(method.ask("--bits"), EqualBits)
        for option in method.Config.table():
            highest = type(option.default)(option.high) if option.simple and not option.choices else option.default
            value = option.choices[-1] if option.choices else highest
            method.check_budget(Budget(method=name, options={option.name: value}))
            assert option.help.endswith(".")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ptq", {"clip": "best"}, "clip must be one of mse, percentile, hqq, max, not best"),
        ("ptq", {"statistics": 1}, "statistics must be one of true, false, not 1"),
        ("magnitude", {"omega": "equal"}, "unknown option 'omega'; known: scope"),
        ("sequential", {"rounds": 0}, "rounds must be one of"),
    ],
)
def test_wrong_options_are_refused_by_name(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        methods.get(method).check_budget(Budget(method=method, options=options))


@pytest.mark.parametrize("method", BASELINES)
def test_layers_that_are_not_there_are_refused(method: str) -> None:
    with pytest.raises(CompressionError, match="no layer 'nope'"):
        methods.get(method).run(task(method, layers={"nope": {"weight_bits": [4, 4]}}), Story())


@pytest.mark.parametrize("method", ["magnitude", "sequential"])
def test_runs_repeat_with_their_seed_and_can_be_stopped(method: str) -> None:
    chosen = methods.get(method)

    def final(seed: int) -> dict[str, torch.Tensor]:
        return copy.deepcopy(chosen.run(task(method, epochs=1, seed=seed), Story()).model.state_dict())

    first, again, other = final(0), final(0), final(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    story = Story(stop=2)
    with pytest.raises(Cancelled):
        chosen.run(task(method), story)
    assert story.steps == [1, 2]


def test_one_bits_value_or_a_range_on_the_command_line() -> None:
    assert runs.with_values(Budget(method="ptq"), {"--bits": (3, 6)}).asks["bits"] == 6
    assert runs.with_values(Budget(method="magnitude"), {"--bits": 3}).asks["bits"] == 3
    assert runs.with_values(Budget(method="sequential"), {"--bits": (3, 6)}).asks["weight_bits"] == 6
    assert runs.with_values(Budget(method="sequential"), {"--bits": 5}).asks["weight_bits"] == 5


@pytest.mark.parametrize("method", BASELINES)
def test_the_whole_chain_ends_in_a_packed_file(method: str, tmp_path: Any) -> None:
    from compression.pack import unpack
    from compression.zoo import weights

    file = weights.save(build("resnet8", seed=0), tmp_path / "initial.safetensors", {})
    budget = Budget(method=method, weights=str(file), epochs=0.1, sparsity=0.5, precision="fp32", bits=5)
    folder = RunFolder.create(tmp_path / "runs", new_spec(budget, Store(tmp_path / "runs")))
    assert carry_out(folder, execute) == "done"
    result = runs.result(folder)
    final = result["final"]
    assert final["bytes_kind"] == "packed"
    assert final["bytes"] == result["ledger"]["total"] == (folder.bundle / "weights.packed").stat().st_size
    assert {width["weight"] for width in final["bits"].values()} == {5.0}
    assert result["equality"] <= 1e-5
    zeros = size = 0
    for name, tensor in unpack(folder.bundle / "weights.packed").items():
        if name.endswith("weight") and tensor.dim() > 1:
            zeros, size = zeros + int((tensor == 0).sum()), size + tensor.numel()
    dense = sum(w.size for w in weights_of(build("resnet8")).values())
    if method == "sequential":
        assert (final["unit_sparsity"], size < 0.5 * dense) == (0.5, True)
    else:
        assert (final["unit_sparsity"], size) == (0, dense)
    if method == "magnitude":
        assert zeros == round(0.5 * dense)


def test_the_closed_form_of_rounding_needs_no_run() -> None:
    work = task("ptq")
    plan = PTQ.allocation(Subject(work.model, work.graph), Budget(method="ptq", bits=6))
    assert {layer.bits for layer in plan.layers} == {6}
    assert plan.value_bits == 6 * sum(w.size for w in weights_of(work.model).values())
