"""OPQ with learned rounding: its own masks and steps, no labels, and no survivor at 0 unless that is allowed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import compression as cx
from app.budget.draft import requested
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Subject
from compression.graph import trace
from compression.methods import Setup
from compression.posttraining import learned, run
from compression.posttraining.follow import neuron_errors
from compression.posttraining.grams import LayerInputs
from compression.posttraining.learned import LearnedRounding
from compression.posttraining.problems import LayerProblem
from compression.quant import integer_weights
from compression.quant.tables import layer_weights, survivors
from compression.runs.submit import check_divides
from compression.training.recalibrate import Statistics
from tests.contract.runs import DATA, network
from tests.contract.test_method_contract import Stopping
from tests.test_baselines import Story

OPQ = methods.get("opq")
BUDGET = OPQ.complete(Budget(method="opq", epochs=0.2, batch_size=32, precision="fp32", sparsity=0.5, bits=3, seed=3))
GRIDS = [{"codebook": codebook, "zeros": zeros} for codebook in ("layer", "channel") for zeros in ("exact", "rounded")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few iterations, and no norms refitted, which is another module's matter."""
    monkeypatch.setattr(run, "fresh_statistics", lambda *_: Statistics())
    monkeypatch.setattr(LearnedRounding.__init__, "__defaults__", (100, 0.02, learned.STRENGTH))


def budget(**options: Any) -> Budget:
    return BUDGET.replace(options={"rounding": "learned", **options})


def setup(requested: Budget) -> Setup:
    model = network()
    return Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), DATA, requested)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: " ".join(grid.values()))
def test_masks_and_steps_are_those_of_the_allocation_and_outputs_change_less(grid: dict[str, str]) -> None:
    requested = budget(**grid)
    plan = OPQ.allocation(Subject(setup(requested).model, setup(requested).graph), requested)
    story = Story()
    done = OPQ.run(setup(requested), story)
    dense, weights = layer_weights(network()), integer_weights(done.model)
    assert sum(layer.pruned for layer in plan.layers) == round(0.5 * sum(each.numel() for each in dense.values()))
    moved = 0
    for layer in plan.layers:
        codes = weights[layer.name].codes
        smallest = dense[layer.name].abs().flatten().argsort()[: layer.pruned]
        assert not codes.flatten()[smallest].any(), "the smallest magnitudes are zero"
        if grid["zeros"] == "exact":
            assert int((codes == 0).sum()) == layer.pruned, "and nothing else is"
        assert weights[layer.name].bits == layer.bits
        assert torch.equal(done.model.get_submodule(layer.name).weight, weights[layer.name].weight())
        scaled = dense[layer.name] / torch.as_tensor(weights[layer.name].step)
        alive = survivors(dense[layer.name], layer.pruned)
        inside = alive & (scaled.abs() <= 2 ** (layer.bits - 1) - 1) & (scaled.abs() >= 1)
        assert ((codes - scaled)[inside].abs() < 1 + 1e-4).all(), "up or down, no further"
        moved += int((codes != scaled.round())[inside].sum())
        outcome = done.facts["layers"][layer.name]
        assert outcome["error"] <= outcome["nearest"] * (1 + 1e-12)
    assert moved, "not what nearest rounding gives"
    errors = [(each["error"], each["nearest"]) for each in done.facts["layers"].values()]
    assert sum(error for error, _ in errors) < 0.97 * sum(nearest for _, nearest in errors)
    assert [phase for phase, _ in story.phases] == ["calibration", "rounding", "statistics"]
    assert {phase for phase, _ in story.phases} <= {stage.name for stage in OPQ.info.stages}
    assert [point.phase for point in story.points] == ["calibration", "rounding", "statistics"]
    assert story.total == len(plan.layers) + 1


def test_a_neuron_under_a_mask_is_near_the_best_of_all_its_codes() -> None:
    """Against every choice of neighbours for six survivors, none of which may be 0."""
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for _ in range(5):
        weights = torch.randn(1, 3, 8, generator=generator, dtype=torch.float64)
        x = torch.randn(50, 8, generator=generator, dtype=torch.float64)
        x = x @ torch.randn(8, 8, generator=generator, dtype=torch.float64)
        mask = weights.abs() >= weights.abs().sort(-1).values[..., 2:3]
        steps = weights.abs().amax(-1) / 2.9
        gram = (x.mT @ x)[None]
        inputs = LayerInputs(gram, None, x.sum(0)[None], len(x))
        problem = LayerProblem("layer", weights, inputs, steps, 3, 6, torch.Generator(), [], mask, 1)
        values, alive = LearnedRounding(500, 0.02, 10.0)(problem)
        codes = values / steps[..., None]
        assert torch.equal(alive, mask)
        assert torch.allclose(codes, codes.round())
        assert torch.equal(codes.round() != 0, mask)
        ours = neuron_errors(weights - values, gram)[0]
        for neuron in range(3):
            scaled = weights[0, neuron] / steps[0, neuron]
            choices = [
                {float(s.sign()) * max(1.0, min(3.0, float(c))) for c in (s.abs().floor(), s.abs().ceil())}
                if on
                else {0.0}
                for s, on in zip(scaled, mask[0, neuron], strict=True)
            ]
            every = torch.tensor(list(itertools.product(*choices)), dtype=torch.float64) * steps[0, neuron]
            errors = neuron_errors((weights[0, neuron] - every)[None], gram)[0]
            plain = scaled.abs().round().clamp(1, 3) * scaled.sign() * mask[0, neuron] * steps[0, neuron]
            nearest = float(neuron_errors((weights[0, neuron] - plain)[None, None], gram))
            assert float(errors.min()) * (1 - 1e-9) <= float(ours[neuron]) <= nearest * (1 + 1e-9)
            ratios.append((float(ours[neuron] - errors.min()), nearest - float(errors.min())))
    assert sum(ours for ours, _ in ratios) < 0.5 * sum(nearest for _, nearest in ratios)


@pytest.mark.usefixtures("quick")
def test_a_killed_run_goes_on_bit_for_bit_and_reads_no_epochs(tmp_path: Path) -> None:
    def attempt(folder: Path, number: int, stop: int | None = None, epochs: float = 0.2) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        with Stopping(folder, number, stop) as report:
            return OPQ.run(setup(budget().replace(epochs=epochs)), report).model.state_dict()

    whole = attempt(tmp_path / "whole", 1)
    for stop in (5,):
        with pytest.raises(KeyboardInterrupt):
            attempt(tmp_path / str(stop), 1, stop)
        resumed = attempt(tmp_path / str(stop), 2, epochs=7)
        assert all(torch.equal(resumed[name], each) for name, each in whole.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": "survivor"}, "rounding learned does not go with grid survivor"),
        ({"distill": 0.5}, "distill does not go with rounding learned, which trains nothing"),
        ({"oscillation": "freeze"}, "oscillation does not go with rounding learned"),
        ({"rounding": "up"}, "rounding must be one of nearest, learned, not up"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        OPQ.check_budget(budget(**options))
    OPQ.check_budget(budget(distill=0.0, ends="eight"))


def test_neither_a_loop_of_ones_own_nor_more_gpus() -> None:
    model: nn.Module = network()
    with pytest.raises(CompressionError, match="not for a loop of your own"):
        cx.apply(model, budget())
    with pytest.raises(CompressionError, match="does not train"):
        check_divides(budget(), 2)


def test_no_words_claim_training() -> None:
    assert "nothing" in OPQ.describe(budget())  # of which the card is made
    assert "epochs" not in OPQ.describe(budget())
    assert "epochs" in OPQ.describe(BUDGET)
    assert requested(budget().replace(epochs=7.0)).epochs == Budget().epochs, "the page has no field for epochs then"
    assert requested(BUDGET.replace(epochs=7.0)).epochs == 7
