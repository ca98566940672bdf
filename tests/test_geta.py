"""GETA as a method: what a budget asks for is what comes out, and its stages are reported on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression import methods
from compression.budget import Budget
from compression.errors import Cancelled, CompressionError, RunFailed
from compression.graph import slim_report, trace, zeroed_units
from compression.methods.base import Reporter, Setup
from compression.methods.geta import GETA
from compression.methods.geta.run import optimizer_for
from compression.methods.geta.schedule import Schedule
from compression.points import Point
from compression.quant import activation_quantizers, weight_quantizers
from compression.runs.events import read_events
from compression.runs.eventwriter import EventWriter
from compression.runs.submit import start
from compression.runs.sweep import sweep
from compression.training.loop import total_steps
from compression.zoo import build, weights
from tests.stripes import striped


class Story(Reporter):
    """A reporter that keeps everything; ``stop`` asks for cancelling at that step."""

    def __init__(self, stop: int | None = None) -> None:
        self.phases: list[tuple[str, int]] = []
        self.points: list[Point] = []
        self.steps: list[int] = []
        self.decisions: list[tuple[int, dict[str, Any]]] = []
        self.messages: list[str] = []
        self.total = 0
        self.facts: dict[str, Any] = {}
        self.stop = stop

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        self.phases.append((name, step))

    def plan(self, total_steps: int, **facts: Any) -> None:
        self.total, self.facts = total_steps, facts

    def step(self, step: int, epoch: float, **values: float) -> None:
        assert {"loss", "score", "lr"} <= values.keys()
        self.steps.append(step)

    def point(self, point: Point) -> None:
        self.points.append(point)

    def decision(self, step: int, **facts: Any) -> None:
        assert step == self.steps[-1]
        self.decisions.append((step, facts))

    def log(self, message: str) -> None:
        assert message
        self.messages.append(message)

    def check(self) -> None:
        if self.stop is not None and len(self.steps) >= self.stop:
            raise Cancelled("asked to stop")


DATA = striped()
BUDGET = Budget(
    epochs=3, batch_size=32, precision="fp32", sparsity=0.5, schedule=Schedule(projection_periods=2, pruning_periods=2)
)  # fmt: skip


def task(budget: Budget) -> Setup:
    torch.set_num_threads(1)
    torch.manual_seed(budget.seed)
    model = build("resnet8", input=(1, 12, 12), classes=4)
    return Setup(model, trace(model, torch.randn(2, 1, 12, 12)), DATA, budget)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_what_is_asked_for_comes_out(optimizer: str) -> None:
    budget = BUDGET.replace(optimizer=optimizer, activation_bits=(5, 6), layers={"linear": {"weight_bits": [3, 3]}})
    work, story = task(budget), Story()
    done = GETA.run(work, story)
    removed = zeroed_units(done.model, work.graph)
    assert sum(map(len, removed.values())) == work.graph.prunable_units // 2 == done.facts["removed"]
    assert {name: units for name, units in removed.items() if units} == done.facts["removed_units"]
    weight_bits = {name: quantizer.bits() for name, quantizer in weight_quantizers(done.model).items()}
    assert len(weight_bits) == 10
    assert weight_bits.pop("linear") == 3
    assert all(bits in (4, 5, 6, 7, 8) for bits in weight_bits.values())
    assert {quantizer.bits() for quantizer in activation_quantizers(done.model).values()} <= {5, 6}
    _, report = slim_report(done.model.eval(), work.graph)
    assert report.equality <= 1e-5


def test_the_story_has_four_stages_every_step_and_twenty_points() -> None:
    work, story = task(BUDGET), Story()
    GETA.run(work, story)
    assert story.steps == list(range(1, story.total + 1))
    assert [name for name, _ in story.phases] == ["warm-up", "projection", "joint", "cool-down"]
    assert dict(story.phases) == story.facts["stages"]
    assert len(story.points) >= 20
    assert [point.step for point in story.points] == sorted({point.step for point in story.points})
    assert story.points[-1].step == story.total
    assert story.points[-1].epoch == pytest.approx(BUDGET.epochs)
    assert {point.split for point in story.points} == {"validation"}
    assert story.points[0].unit_sparsity == 0
    assert story.points[-1].unit_sparsity == 0.5
    assert story.points[-1].bytes < 0.3 * story.points[0].bytes
    assert story.points[-1].score > 0.5


def test_the_descent_argument_can_be_replayed_from_what_is_reported(tmp_path: Path) -> None:
    work, story = task(BUDGET.replace(groups={"conv1": {"sparsity": [0, 0.2]}})), Story()
    done = GETA.run(work, story)
    starts = dict(story.phases)
    assert all(starts["joint"] <= step < starts["cool-down"] for step, _ in story.decisions)
    removed: dict[str, list[int]] = {}
    for _, facts in story.decisions:
        for group, units in facts.get("chosen", {}).items():
            removed.setdefault(group, []).extend(unit for unit, _ in units)
    assert {group: sorted(units) for group, units in removed.items()} == done.facts["removed_units"]
    choices = [facts for _, facts in story.decisions if "chosen" in facts]
    assert len(choices) == 2
    for facts in choices:
        scores = [score for units in facts["chosen"].values() for _, score in units]
        assert facts["next_score"] is None or max(scores) <= facts["next_score"]
    replayed = 0
    for _, facts in story.decisions:
        for joint in facts.get("joint", {}).values():
            inner = joint["ch"] + sum(d * product for d, _, _, product, _ in joint["layers"].values())
            terms = [joint["alpha"] * joint["hh"], joint["rate"] * inner]
            assert -sum(terms) == pytest.approx(joint["descent"], rel=1e-3, abs=1e-3 * abs(terms[0]))
            assert joint["descent"] <= joint["allowed"] == pytest.approx(-0.999 * 0.1 * terms[0], rel=1e-3)
            assert 0 <= joint["rate"] <= joint["uniform"]
            assert all(low * 0.999 <= d <= high * 1.001 for d, low, high, _, _ in joint["layers"].values())
            assert all(-1 <= cosine <= 1 for *_, cosine in [*joint["layers"].values(), [joint["cosine"]]])
            replayed += 1
    assert replayed > 20
    with EventWriter(tmp_path / "events.jsonl") as events:
        for step, facts in story.decisions:
            events.decision(step, **facts)
    read, size = read_events(tmp_path / "events.jsonl")
    for event, (step, facts) in zip(read, story.decisions, strict=True):
        assert {name: event[name] for name in facts} == json.loads(json.dumps(facts))
        assert (event["kind"], event["step"]) == ("group", step)
    assert size / len(read) < 4000, "one short line a step"


def test_units_spared_by_a_bound_are_reported() -> None:
    """With one group closed to pruning, its units that score lowest are named as spared."""
    work, story = task(BUDGET.replace(groups={"conv1": {"sparsity": [0, 0]}})), Story()
    GETA.run(work, story)
    for facts in [facts for _, facts in story.decisions if "chosen" in facts]:
        assert "conv1" not in facts["chosen"]
    assert any("conv1" in facts["spared"] for _, facts in story.decisions if "chosen" in facts)


def test_a_run_repeats_with_its_seed_and_differs_with_another() -> None:
    def final(seed: int) -> dict[str, torch.Tensor]:
        return GETA.run(task(BUDGET.replace(epochs=2, seed=seed)), Story()).model.state_dict()

    first, again, other = final(0), final(0), final(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_asking_to_stop_stops() -> None:
    story = Story(stop=3)
    with pytest.raises(Cancelled):
        GETA.run(task(BUDGET), story)
    assert len(story.steps) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0.1}, "train longer"),
        ({"sparsity": 0.99}, "units are to be removed"),
        ({"groups": {"nope": {"sparsity": [0, 0.5]}}}, "no prunable group 'nope'"),
        ({"layers": {"nope": {"weight_bits": [4, 4]}}}, "no weight quantizer"),
        ({"layers": {"conv1": {"activation_bits": [4, 4]}}}, "set activation_bits too"),
        ({"options": {"criteria": {"size": 1}}}, "unknown saliency criterion 'size'"),
    ],
)
def test_budgets_that_cannot_be_reached_are_refused_in_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        GETA.run(task(BUDGET.replace(**changes)), Story())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0.1}, "train longer"),
        ({"sparsity": 0.99}, r"only 0 to \d+ of 112 can be: choose a sparsity from 0 % to 9\d\.\d %"),
        ({"groups": {"conv1": {"sparsity": [0.5, 1]}}, "sparsity": 0.01}, "1 units are to be removed"),
        ({"layers": {"nope": {"weight_bits": [4, 4]}}}, "no such layer"),
        ({"layers": {"conv1": {"weight_bits": [4, 12]}}, "schedule": Schedule(start_bits=8)}, "above schedule"),
        ({"layers": {"conv1": {"activation_bits": [4, 4]}}}, "set activation_bits too"),
    ],
)
def test_what_the_model_cannot_give_is_refused_before_anything_is_trained(
    changes: dict[str, Any], message: str
) -> None:
    work = task(BUDGET.replace(**changes))
    before = {name: tensor.clone() for name, tensor in work.model.state_dict().items()}
    with pytest.raises(CompressionError, match=message):
        GETA.check(work)
    assert all(torch.equal(before[name], tensor) for name, tensor in work.model.state_dict().items())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sparsity=st.floats(0, 0.999),
    epochs=st.floats(0.02, 0.6),
    bound=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    joint=st.floats(0.01, 0.8),
)
def test_what_is_let_through_is_what_the_optimizer_accepts(
    sparsity: float, epochs: float, bound: list[float], joint: float
) -> None:
    """The answer before the run is the answer of the run: the optimizer is made from the same budget."""
    schedule = Schedule(joint=joint, pruning_periods=3)
    budget = BUDGET.replace(sparsity=sparsity, epochs=epochs, groups={"conv1": {"sparsity": bound}}, schedule=schedule)
    work, answers = task(budget), []
    for ask in (
        lambda: GETA.check(work),
        lambda: optimizer_for(work, GETA.options(budget), total_steps(DATA, 32, epochs)),
    ):
        try:
            ask()
            answers.append("yes")
        except CompressionError as refusal:
            answers.append(str(refusal))
    assert answers[0] == answers[1]


def test_a_run_is_refused_before_it_is_started_and_so_is_every_run_of_a_sweep(tmp_path: Path) -> None:
    for ask in (lambda: start(Budget(sparsity=0.99), tmp_path), lambda: sweep(Budget(), (0.3, 0.99), (), tmp_path)):
        with pytest.raises(CompressionError, match="units are to be removed"):
            ask()
    assert not list(tmp_path.glob("**/spec.json"))


def test_a_loss_that_is_not_finite_ends_the_run_in_words() -> None:
    with pytest.raises(RunFailed, match="smaller learning rate"):
        GETA.run(task(BUDGET.replace(lr=1000, weight_decay=100)), Story())


class Wide(torch.nn.Module):
    """One linear layer: nothing in it can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(144, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x.flatten(1))
        return out


def test_where_nothing_can_be_removed_it_quantizes_and_says_so() -> None:
    model, story = Wide(), Story()
    work = Setup(model, trace(model, torch.randn(2, 1, 12, 12)), DATA, BUDGET.replace(epochs=1))
    GETA.check(work)
    done = GETA.run(work, story)
    assert [message for message in story.messages if "removed" in message]
    assert done.facts["removed"] == 0
    assert [quantizer.bits() in (4, 5, 6, 7, 8) for quantizer in weight_quantizers(done.model).values()] == [True]


def test_it_is_found_by_name() -> None:
    assert methods.get("geta") is GETA
    assert GETA.removes_units


@pytest.mark.slow
def test_the_default_budget_loses_at_most_eight_points() -> None:
    from compression import data
    from compression.training.dense import evaluate

    images = data.load("mnist5k")
    path = weights.find("resnet8", "mnist5k", images.input, len(images.classes))
    if path is None:
        pytest.skip("no trained weights of resnet8 on mnist5k here")
    torch.manual_seed(0)
    model = build("resnet8")
    weights.load(model, path)
    dense = evaluate(model, images, "test").score
    work = Setup(model, trace(model, torch.randn(2, *images.input)), images, Budget())
    done = GETA.run(work, Story())
    assert sum(map(len, zeroed_units(done.model, work.graph).values())) == 56
    assert dense - evaluate(done.model, images, "test").score <= 0.08


def test_a_short_run_has_fewer_periods_and_still_keeps_its_promise() -> None:
    budget = BUDGET.replace(epochs=0.6, schedule=Schedule(projection_periods=4, pruning_periods=6))
    work, story = task(budget), Story()
    done = GETA.run(work, story)
    assert story.total == 12
    assert done.facts["removed"] == work.graph.prunable_units // 2
    assert all(quantizer.bits() in (4, 5, 6, 7, 8) for quantizer in weight_quantizers(done.model).values())
