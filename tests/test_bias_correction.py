"""Bias correction, and equalization as an option of a run: what the forecast says is what the run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.explain.untrained import measure_untrained
from compression.forecast import Subject
from compression.graph import Graph, deep_copy, slim_report, trace
from compression.pack import pack, unpack
from compression.pack.restore import restore_slim
from compression.posttraining.bias import correct_biases, normed_layers
from compression.posttraining.expected_inputs import expected_inputs, rectified_mean
from compression.quant import fold, integer_weights, quantize
from compression.quant.attach import quantizable_layers
from compression.training.setup import Reporter
from tests.contract import runs
from tests.oracle import shake

METHOD = methods.get("ptq")


def network() -> tuple[nn.Module, Graph, list[torch.Tensor]]:
    """With a bias, with a norm instead, with neither, and with a bias at the end."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 1, bias=False), nn.Flatten(2), nn.Linear(36, 4),
    )  # fmt: skip
    model = shake(model).eval()
    batches = [torch.randn(4, 3, 8, 8), torch.randn(2, 3, 8, 8)]
    return model, trace(model, batches[0][:1]), batches


def channel_errors(model: nn.Module, dense: nn.Module, name: str, batches: list[torch.Tensor]) -> torch.Tensor:
    """Mean over examples and positions of what the layer of ``model`` computes less what that of ``dense`` would from
    the same input; behind a norm, of what the norms return."""
    index, outputs = int(name), []
    last = index + 1 + isinstance(dense[index + 1], nn.BatchNorm2d) if index < len(dense) - 1 else index + 1
    for x in batches:
        x = model[:index](x)
        outputs.append(model[index:last](x) - dense[index:last](x))
    whole = torch.cat(outputs)
    return whole.flatten(0, 1).mean(0) if isinstance(dense[index], nn.Linear) else whole.mean((0, 2, 3))


@torch.no_grad()
def test_the_mean_error_of_every_channel_is_gone() -> None:
    dense, graph, batches = network()
    model = quantize(deep_copy(dense), 3)
    before = {name: channel_errors(model, dense, name, batches) for name in ("0", "2", "7")}
    corrections = correct_biases(model, dense, graph, batches)
    assert [(each.layer, each.place) for each in corrections] == [
        ("0", "0.bias"), ("2", "3.running_mean"), ("7", "7.bias"),
    ]  # fmt: skip
    assert corrections[0].largest == pytest.approx(float(before["0"].abs().max()), rel=1e-4)
    for name, error in before.items():
        assert float(error.abs().max()) > 1e-3
        assert float(channel_errors(model, dense, name, batches).abs().max()) < 1e-5


@torch.no_grad()
def test_layers_may_stay_and_biases_be_added() -> None:
    dense, graph, batches = network()
    assert normed_layers(dense, graph) == {"2": "3"}
    model = quantize(deep_copy(dense), 3)
    places = [each.place for each in correct_biases(model, dense, graph, batches, skip=normed_layers(dense, graph))]
    assert places == ["0.bias", "7.bias"]
    assert torch.equal(model[3].running_mean, dense[3].running_mean)
    model = quantize(deep_copy(dense), 3)
    added = [each for each in correct_biases(model, dense, graph, batches, add=True) if each.added]
    assert [each.place for each in added] == ["5.bias"]
    assert float(channel_errors(model, dense, "5", batches).abs().max()) < 1e-5


# Without data ---------------------------------------------------------------------------------------------------------


def test_the_mean_behind_a_norm_and_a_relu_against_a_million_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(1_000_000, dtype=torch.float64, generator=generator)
    beta = torch.tensor([-3.0, -0.5, 0.0, 0.4, 2.0, -0.7], dtype=torch.float64)
    gamma = torch.tensor([1.0, 2.0, 0.5, -0.3, 1.5, 0.0], dtype=torch.float64)
    for mean, b, g in zip(rectified_mean(beta, gamma).tolist(), beta.tolist(), gamma.tolist(), strict=True):
        drawn = (b + g * samples).clamp(min=0)
        assert mean == pytest.approx(float(drawn.mean()), abs=4 * float(drawn.std()) / 1000 + 1e-12)


class Behind(nn.Module):
    """Layers behind a norm and a ReLU (in two groups, and another that shares them), a norm alone, a sum, a GELU and a
    layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.grouped, self.beside = nn.Conv2d(6, 4, 3, groups=2), nn.Conv2d(6, 4, 3)
        self.normed, self.alone = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.after_gelu, self.last_norm, self.last = nn.Conv2d(4, 4, 1), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = self.alone(self.normed(self.grouped(x) + self.beside(x)))
        x = self.after_gelu(nn.functional.gelu(x)).mean((2, 3))
        return self.last(torch.relu(self.last_norm(x)))  # type: ignore[no-any-return]


@torch.no_grad()
def test_layers_behind_a_norm_are_corrected_by_formula_and_others_left_alone() -> None:
    torch.manual_seed(3)
    dense = shake(Behind()).eval()
    graph = trace(dense, torch.randn(1, 3, 8, 8))
    means = expected_inputs(dense, graph)
    assert set(means) == {"grouped", "beside", "alone"}
    assert torch.equal(means["alone"], dense.normed.bias.double())
    model = quantize(deep_copy(dense), 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    corrections = correct_biases(model, dense, graph, [], means=means)
    assert [each.place for each in corrections] == ["grouped.bias", "beside.bias", "alone.bias"]
    after = model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"grouped.bias", "beside.bias", "alone.bias"}
    # the oracle: the layers themselves on inputs as the formula assumes them, normal behind the norm
    drawn = dense.norm.bias[None] + dense.norm.weight[None] * torch.randn(200_000, 6)
    x = torch.relu(drawn).view(-1, 6, 1, 1)
    for name in ("grouped", "beside"):
        difference = model.get_submodule(name).weight - dense.get_submodule(name).weight
        groups = dense.get_submodule(name).groups
        mean = nn.functional.conv2d(x, difference.sum((2, 3), keepdim=True), groups=groups).mean((0, 2, 3))
        shift = before[f"{name}.bias"] - after[f"{name}.bias"]
        torch.testing.assert_close(shift, mean, atol=0.01 * float(mean.abs().max()), rtol=0.02)


def test_a_run_without_data_says_what_it_leaves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Logging(Reporter):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def log(self, message: str) -> None:
            self.lines.append(message)

    options = {"bias_correction": True, "correction": "formula", "statistics": False}
    monkeypatch.setattr("compression.posttraining.prepare.plain_batches", None)  # none is to be read
    setup, report = runs.setup(budget(**options)), Logging()
    done = METHOD.run(setup, report)
    places = {each["layer"]: each["place"] for each in done.facts["bias_correction"]}
    assert places.pop("layer1.0.conv1") == "layer1.0.bn1.running_mean", "behind the norm and ReLU of the stem"
    assert places == {f"layer{n}.0.conv2": f"layer{n}.0.bn2.running_mean" for n in (1, 2, 3)}
    (line,) = (line for line in report.lines if line.startswith("left alone"))
    assert {*line.partition(": ")[2].split(", ")} == {layer.name for layer in setup.graph.layers} - {
        *places,
        "layer1.0.conv1",
    }


# As options of a run --------------------------------------------------------------------------------------------------


def budget(**options: Any) -> Budget:
    return runs.budget("ptq", options=options)


def test_the_forecast_of_cle_is_the_allocation_of_the_run() -> None:
    requested = budget(equalize="cle")
    setup = runs.setup(requested)
    subject = Subject(runs.network(), setup.graph)
    forecast, planned = METHOD.forecast(subject, requested), METHOD.allocation(subject, requested)
    facts = METHOD.run(setup, Reporter()).facts
    steps = {layer["name"]: layer["step"] for layer in facts["allocation"]["layers"]}
    assert {layer.name: layer.step for layer in planned.layers} == pytest.approx(steps, rel=1e-6)
    assert steps != pytest.approx({x.name: x.step for x in METHOD.allocation(subject, budget()).layers}, rel=1e-3)
    layers = quantizable_layers(METHOD.prepared(subject, requested).model).values()
    energy = sum(float(layer.weight.detach().square().sum()) for layer in layers)  # type: ignore[operator, union-attr]
    assert forecast.error == pytest.approx(facts["allocation"]["error"] / energy, rel=1e-5)
    assert facts["equalize"]["kind"] == "cle"
    json.dumps(facts)


@pytest.mark.parametrize("kind", ["smooth", "awq"])
def test_a_forecast_says_what_it_cannot_know(kind: str) -> None:
    requested = budget(equalize=kind)
    subject = Subject(runs.network(), runs.setup(requested).graph)
    forecast, plain = METHOD.forecast(subject, requested), METHOD.forecast(subject, budget())
    assert any(kind in note for note in forecast.notes)
    assert forecast.bytes == plain.bytes
    assert plain.notes == ()


def test_what_is_measured_before_a_run_is_of_the_equalized_weights() -> None:
    """At 16 bits scales change nothing; steps of the equalized weights on those of before would."""
    model, graph = runs.network(), runs.setup(budget()).graph
    (measured,) = measure_untrained(
        model, graph, runs.setup(budget()).task, budget(equalize="cle"), [(0.0, 16)], split="validation", limit=64
    )
    assert measured.error < 1e-6


def test_a_run_with_all_of_it_is_packed_and_read_back(tmp_path: Path) -> None:
    """Into the network as its code builds it: no parameter was added."""
    requested = budget(equalize="cle", absorb=True, bias_correction=True, statistics=False)
    setup = runs.setup(requested)
    result = METHOD.run(setup, Reporter())
    corrected = {each["layer"]: each["place"] for each in result.facts["bias_correction"]}
    assert corrected["conv1"] == "bn1.running_mean"
    assert corrected["linear"] == "linear.bias"
    plain, cut = slim_report(fold(result.model.eval()), setup.graph)
    assert cut.equality < 1e-5
    pack(plain, tmp_path / "weights.packed", integer_weights(result.model))
    restored = restore_slim(runs.network(), setup.graph, {}, unpack(tmp_path / "weights.packed"))
    x = setup.graph.example(2)
    assert torch.equal(restored(x), plain(x))


def test_options_are_refused_by_name() -> None:
    for options in ({"equalize": "all"}, {"smoothing": 2.0}, {"bias_correction": "yes"}, {"correction": "guess"}):
        with pytest.raises(CompressionError, match=next(iter(options))):
            METHOD.check_budget(budget(**options))
