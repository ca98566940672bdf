"""What GETA's options do: distillation, averaged and priced saliency, fitted ranges, fresh statistics, presets."""

from __future__ import annotations

import copy
import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.data import Batches
from compression.data.types import DataSet, Split
from compression.errors import CompressionError
from compression.graph import slim, trace, zero_units, zeroed_units
from compression.methods.base import Reporter, Setup
from compression.methods.geta.algorithm import JointTraining
from compression.methods.geta.options import ACCURATE, PAPER, GetaOptions
from compression.methods.geta.run import attach, optimizer_for
from compression.methods.geta.schedule import Schedule
from compression.points import Point
from compression.pruning.saliency import AveragedSaliency
from compression.pruning.unit_cost import UnitPrices
from compression.pruning.units import Units
from compression.quant import quantize, weight_quantizers
from compression.quant.clipping import best_clip, fit_clips
from compression.tasks.classification import Classification
from compression.training.distill import Teacher, distillation_loss
from compression.training.loop import train_step
from compression.training.recipe import Recipe
from compression.training.trainer import Trainer
from compression.zoo import build

CLASSIFY = Classification(None)  # type: ignore[arg-type]  # losses need no data

ROOT = Path(__file__).resolve().parents[1]


def numbers(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 255, (count, 1, 12, 12), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 4, (count,), generator=generator))


DATA = DataSet(
    "noise", "noise", ("a", "b", "c", "d"), numbers(256, 0), numbers(64, 1), numbers(64, 2), (0.5,), (0.3,), "none"
)
BUDGET = Budget(
    epochs=2.5, batch_size=32, precision="fp32", sparsity=0.5, weight_bits=(4, 4), lr=0.01,
    schedule=Schedule(warmup=0.1, projection=0.2, projection_periods=2, joint=0.5, pruning_periods=2),
)  # fmt: skip


def task(budget: Budget = BUDGET) -> Setup:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build("resnet8", input=(1, 12, 12), classes=4)
    return Setup(model, trace(model, torch.zeros(2, 1, 12, 12)), DATA, budget)


class Quiet(Reporter):
    """A reporter that keeps points and messages only."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.messages: list[str] = []
        self.rates: list[float] = []

    def step(self, step: int, epoch: float, **values: float) -> None:
        self.rates.append(values["lr"])

    def decision(self, step: int, **facts: Any) -> None:
        assert step and facts

    def point(self, point: Point) -> None:
        self.points.append(point)

    def log(self, message: str) -> None:
        self.messages.append(message)


def test_distillation_loss_is_the_formula_of_its_paper() -> None:
    generator = np.random.default_rng(0)
    student, teacher, y = generator.normal(size=(6, 5)), 3 * generator.normal(size=(6, 5)), np.arange(6) % 5
    weight, temperature = 0.7, 3.0

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z)
        return e / e.sum(1, keepdims=True)

    p, q = softmax(teacher / temperature), softmax(student / temperature)
    soft = (p * np.log(p / q)).sum(1).mean() * temperature**2
    hard = -np.log(softmax(student)[np.arange(6), y]).mean()
    answer, target = torch.from_numpy(student), torch.from_numpy(teacher)
    tensors = (answer, target, partial(CLASSIFY.loss, answer, torch.from_numpy(y)))
    assert float(distillation_loss(CLASSIFY, *tensors, weight, temperature)) == pytest.approx(0.3 * hard + 0.7 * soft)
    assert float(distillation_loss(CLASSIFY, *tensors, 0.0, temperature)) == pytest.approx(hard)
    assert float(distillation_loss(CLASSIFY, *tensors, 1.0, temperature)) == pytest.approx(soft)


def test_a_teacher_keeps_its_mind_and_teaches_the_images_it_is_shown() -> None:
    model = build("resnet8", input=(1, 12, 12), classes=4)
    x, y = torch.randn(8, 1, 12, 12), torch.arange(8) % 4
    expected = copy.deepcopy(model).eval()(x).detach()
    teacher = Teacher(CLASSIFY, model.train(), Recipe())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss, _ = train_step(CLASSIFY, model, x, y, Recipe(), teacher.goal(0.5, 2.0))
        optimizer.step()
    assert torch.allclose(teacher(x), expected, atol=1e-5)
    assert not teacher(x).requires_grad
    assert model.training
    answer = model(x)
    by_hand = distillation_loss(CLASSIFY, answer, expected, partial(CLASSIFY.loss, answer, y), 0.5, 2.0)
    again, _ = train_step(CLASSIFY, model, x, y, Recipe(), teacher.goal(0.5, 2.0))
    assert again == pytest.approx(float(by_hand.detach()), rel=1e-4)
    assert again < loss


def test_a_step_without_a_goal_minimises_cross_entropy() -> None:
    model, x, y = nn.Linear(6, 3), torch.randn(5, 6), torch.arange(5) % 3
    expected = torch.autograd.grad(F.cross_entropy(model(x), y), model.weight)[0]
    train_step(CLASSIFY, model, x, y, Recipe())
    assert torch.allclose(model.weight.grad, expected)


def test_averaged_saliency_is_the_mean_over_batches_unit_by_unit() -> None:
    work = task()
    units = Units(work.model, work.graph)
    averaged = AveragedSaliency(units, {"taylor_second_order": 1.0})
    expected = torch.zeros(units.total)
    for seed in range(3):
        torch.manual_seed(seed)
        work.model.zero_grad()
        train_step(work.task, work.model, torch.randn(16, 1, 12, 12), torch.randint(0, 4, (16,)), Recipe())
        averaged.observe()
        for group in units:
            for unit in range(group.units):
                products = [
                    (piece.parameter * piece.parameter.grad).index_select(piece.dim, piece.positions[unit]).sum()
                    for piece in group.slices
                    if piece.parameter.grad is not None
                ]
                expected[group.first + unit] += 0.5 * float(sum(products).detach()) ** 2
    taken = averaged.take()
    assert torch.allclose(taken, expected / expected.norm(), atol=1e-5)
    assert not averaged.take().any()


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_the_cost_of_a_unit_is_what_cutting_it_saves(kind: str) -> None:
    work = task()
    groups = work.graph.prunable
    removed = [group.units // 4 for group in groups]
    costs = UnitPrices(work.graph, removed, kind).costs.tolist()

    def taken(counts: list[int]) -> int:
        thin = copy.deepcopy(work.model)
        zero_units(thin, work.graph, {group.id: list(range(n)) for group, n in zip(groups, counts, strict=True)})
        small = trace(slim(thin, work.graph), torch.zeros(1, 1, 12, 12))
        return small.macs if kind == "macs" else small.params

    whole, before = taken([0] * len(groups)), taken(removed)
    for index, cost in enumerate(costs):
        one_more = [count + (place == index) for place, count in enumerate(removed)]
        assert cost == pytest.approx((before - taken(one_more)) / whole)


def test_without_cost_all_units_are_worth_the_same_and_other_kinds_are_refused() -> None:
    graph = task().graph
    assert set(UnitPrices(graph, [0] * len(graph.prunable), "none").costs.tolist()) == {1.0}
    with pytest.raises(CompressionError, match="macs"):
        UnitPrices(graph, [0] * len(graph.prunable), "gold").costs.tolist()


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_fitted_bound_is_the_least_squares_one(bits: int) -> None:
    weight = torch.from_numpy(np.random.default_rng(1).standard_t(4, size=4000)).float()

    def error(bound: float) -> float:
        step = bound / (2 ** (bits - 1) - 1)
        return float(((weight.clamp(-bound, bound) / step).round() * step - weight).square().sum())

    largest = float(weight.abs().max())
    clip = best_clip(weight, bits)
    around = (max(0.01 * largest, clip - 0.1 * largest), min(largest, clip + 0.1 * largest))
    assert error(clip) <= 1.03 * minimize_scalar(error, bounds=around, method="bounded").fun
    assert error(clip) <= min(error(largest * share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)) + 1e-3
    if bits == 3:
        assert error(clip) < 0.5 * error(largest)


def test_fitting_leaves_bits_and_zeros_alone() -> None:
    torch.manual_seed(0)
    model = quantize(nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40)), 6)
    with torch.no_grad():
        model[1].parametrizations.weight.original.zero_()
    before = [float(quantizer.clip.detach()) for quantizer in weight_quantizers(model).values()]
    fit_clips(model, lambda layer, quantizer: 3)
    first, second = weight_quantizers(model).values()
    assert first.bits() == second.bits() == 6
    assert float(first.clip) == pytest.approx(best_clip(model[0].parametrizations.weight.original, 3))
    assert float(first.clip) < before[0]
    assert float(second.clip) == before[1]


def test_presets_are_where_options_start_from() -> None:
    assert GetaOptions.read({}, "geta") == GetaOptions() == GetaOptions.read({"preset": "tuned"}, "geta")
    accurate = GetaOptions.read({"preset": "accurate", "unsigned": False}, "geta").model_dump()
    changed = {name for name, value in GetaOptions().model_dump().items() if accurate[name] != value}
    assert changed == {"preset", *ACCURATE} - {"unsigned"}
    paper = GetaOptions.read({"preset": "paper", "distill": 0.5}, "geta")
    assert paper.distill == 0.5
    assert (paper.clip, paper.cost, paper.saliency_batches, paper.recalibrate) == ("max", "none", 1, 0)
    assert set(paper.criteria.values()) == {0.2}
    table = {option.name: option for option in methods.get("geta").Config.table()}
    assert all(option.help.endswith(".") for option in table.values())
    assert {name: table[name].default for name in table} == GetaOptions().model_dump()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distil": 1}, "unknown option 'distil'.*distill"),
        ({"distill": 1.5}, r"distill must be a number in 0..1"),
        ({"saliency_batches": 2.5}, "whole number in 1"),
        ({"preset": "best"}, "paper"),
        ({"cost": "gold"}, "none, macs, parameters"),
        ({"criteria": {}}, "at least one"),
        ({"criteria": "magnitude"}, "object of names"),
        ({"temperature": True}, "temperature"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_a_run(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        methods.get("geta").check_budget(Budget(options=options))


@pytest.mark.parametrize("preset", ["paper", "tuned", "accurate"])
def test_all_presets_keep_the_promise(preset: str) -> None:
    work, story = task(BUDGET.replace(options={"preset": preset})), Quiet()
    done = methods.get("geta").run(work, story)
    assert sum(map(len, zeroed_units(done.model, work.graph).values())) == work.graph.prunable_units // 2
    assert {quantizer.bits() for quantizer in weight_quantizers(done.model).values()} == {4}
    assert done.facts["options"]["distill"] == (PAPER["distill"] if preset == "paper" else 0.9)
    assert any("statistics" in message for message in story.messages) == (preset != "paper")


def test_the_learning_rate_rises_over_its_share_and_falls_to_almost_nothing() -> None:
    story = Quiet()
    methods.get("geta").run(task(BUDGET.replace(options={"lr_warmup": 0.3, "distill": 0})), story)
    assert len(story.rates) == 20
    assert story.rates[:5] == sorted(story.rates[:5])
    assert story.rates[0] == pytest.approx(0.01 * (1 / 21) / 0.3)
    assert max(story.rates) == pytest.approx(0.01, rel=0.01)
    assert 0 < story.rates[-1] < 0.0002


def test_saliency_is_observed_up_to_each_choice_and_priced() -> None:
    work = task(BUDGET.replace(options={"saliency_batches": 3, "cost": "macs", "cost_power": 1.0, "distill": 0}))
    chosen = GetaOptions.read(work.budget.options, "geta")
    trainer = Trainer(work, Quiet(), chosen)
    attach(work, chosen, Quiet())
    optimizer = optimizer_for(work, chosen, 20)
    training = JointTraining(work, optimizer, chosen, lambda: [])
    assert training.window.steps == {5, 6, 7, 10, 11, 12}  # choices at steps 7 and 12: the joint stage is steps 7 to 16
    trainer.train(training.section, training)
    train_step(work.task, work.model, torch.randn(16, 1, 12, 12), torch.randint(0, 4, (16,)), Recipe())
    assert training.scores is not None
    training.scores.observe()
    plain = copy.deepcopy(training.scores.saliency).take()
    counts = [int(optimizer.removed[group.first : group.first + group.units].sum()) for group in optimizer.units]
    costs = UnitPrices(work.graph, counts, "macs").costs.tolist()
    for group, cost in zip(optimizer.units, costs, strict=True):
        part = slice(group.first, group.first + group.units)
        assert optimizer.scorer is not None
        assert torch.allclose(optimizer.scorer()[part], plain[part] / cost)
        training.scores.observe()


def test_statistics_after_a_tuned_run_are_those_of_the_final_weights() -> None:
    work = task(BUDGET.replace(options={"recalibrate": 8}))
    work.task = Classification(dataclasses.replace(DATA, augment="shift"))
    model = methods.get("geta").run(work, Quiet()).model
    norm = model.bn1
    model.eval()
    images = [x for x, _ in Batches(work.data, "train", 32, seed=0, epoch=3)]
    with torch.no_grad():
        means = torch.stack([model.conv1(x).mean((0, 2, 3)) for x in images])
    assert torch.allclose(norm.running_mean, means.mean(0), atol=1e-4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux")
def test_a_process_that_keeps_memory_does_not_map_it_anew() -> None:
    code = """
import resource, sys, torch
from compression.training.recipe import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else None
def fill(): return [torch.ones(1 << 20) for _ in range(8)]
for _ in range(3): fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): fill()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def run(word: str) -> tuple[str, int]:
        # a fixed threshold: glibc otherwise learns one of its own, sometimes as good and sometimes not
        fixed = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
        command = [sys.executable, "-c", code, word]
        process = subprocess.run(command, cwd=ROOT, env=fixed, capture_output=True, text=True, check=True)
        applied, faults = process.stdout.split()
        return applied, int(faults)

    applied, faults = run("keep")
    if applied != "True":
        pytest.skip("this C library has no such setting")
    assert faults < 0.2 * run("plain")[1]
