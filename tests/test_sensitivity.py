"""Sensitivity: one layer at a time against changes made by hand, the rule on small tables, job, page and command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from opened import Open, errors
from test_budget_page import open_page  # noqa: F401  (a fixture)
from torch import nn

from compression import methods, runs
from compression.budget import Budget
from compression.explain.layer_sensitivity import Bench, Trial, as_budget, fewest_bits, most_sparsity, trials
from compression.graph import trace
from compression.jobs import sensitivity as study
from compression.jobs import studies
from compression.plots.sensitivity import sensitivity_figure, sensitivity_info
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.training.dense import evaluate

SECONDS = 300
IMAGES = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def scanned(root: Path) -> dict[str, Any]:
    """The result of a real scan of whole units by a worker process."""
    job = study.measure(Budget(method="opq", sparsity=0.3), root, True, IMAGES)
    result = runs.wait(job, root / studies.FOLDER, timeout=SECONDS)
    assert result["status"] == "done", result
    return result


def small() -> nn.Sequential:
    torch.manual_seed(3)
    first, second = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 6, 3)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(384, 4)).eval()


def test_a_trial_changes_one_layer_alone_and_takes_it_back() -> None:
    model = small()
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bench = Bench(model, graph)
    with bench.during(Trial("weights", "2", 0.3, 270)) as removed:
        weight = model[2].weight.detach()
        assert removed == 81 == int((weight == 0).sum())
        assert weight[weight != 0].abs().min() >= before["2.weight"][weight == 0].abs().max()
        assert torch.equal(weight[weight != 0], before["2.weight"][weight != 0])
    with bench.during(Trial("bits", "2", 3, 270)) as removed:
        values = model[2].weight.detach().unique()
        assert removed == 0
        assert 2 < len(values) <= 7, "2^3 - 1 levels"
        steps = values / values[values > 0].min()
        assert torch.allclose(steps, steps.round(), atol=1e-5)
    with bench.during(Trial("units", "0", 0.5, 5)) as removed:
        norms = (before["0.weight"].flatten(1).square().sum(1) + before["0.bias"].square()).sqrt()
        least = norms.argsort()[:2].tolist()
        dead = [i for i in range(5) if not model[0].weight[i].any() and not model[0].bias[i].any()]
        assert removed == 2
        assert dead == sorted(least)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_step_of_a_trial_has_the_least_squared_error() -> None:
    model = small()
    weight = model[5].weight.detach().clone()
    bench = Bench(model, trace(model, torch.zeros(1, 1, 12, 12)))
    with bench.during(Trial("bits", "5", 4, weight.numel())):
        reached = float((model[5].weight.detach() - weight).square().sum())
    steps = torch.linspace(0.1, 1.0, 400) * float(weight.abs().max()) / 7
    least = min(float(((weight / d).round().clamp(-7, 7) * d - weight).square().sum()) for d in steps)
    assert reached <= least * 1.0001


def test_every_layer_and_group_is_tried_once() -> None:
    model = small()
    graph = trace(model, torch.zeros(1, 1, 12, 12))
    for structured, kind, names in ((True, "units", ["0", "2"]), (False, "weights", ["0", "2", "5"])):
        tried = trials(model, graph, structured)
        assert len(set(tried)) == len(tried) == 3 * 5 + len(names) * 4
        assert list(dict.fromkeys(trial.name for trial in tried if trial.kind == kind)) == names


def test_the_scan_measures_what_a_hand_made_change_costs(scanned: dict[str, Any]) -> None:
    from compression.runs.prepare import load

    subject = load(Budget())
    assert scanned["images"] == IMAGES
    assert scanned["dense"] == evaluate(subject.model, subject.data, "validation", limit=IMAGES).score
    weight = subject.model.get_submodule("layer3.0.conv1").weight.detach()
    bias = subject.model.get_submodule("layer3.0.bn1")
    parts = (weight.flatten(1).square().sum(1), bias.weight.detach().square(), bias.bias.detach().square())
    chosen = sum(parts).argsort()[:16]
    with torch.no_grad():
        weight[chosen], bias.weight[chosen], bias.bias[chosen] = 0, 0, 0
    (row,) = (r for r in scanned["rows"] if (r["kind"], r["name"], r["value"]) == ("units", "layer3.0.conv1", 0.5))
    assert row["gone"] == 16
    assert row["accuracy"] == evaluate(subject.model, subject.data, "validation", limit=IMAGES).score


def test_a_scan_is_found_again_for_the_same_question_only(scanned: dict[str, Any], root: Path) -> None:
    folder = studies.find(study.key(Budget(sparsity=0.9), True, IMAGES), root)
    assert folder is not None
    assert folder.id == scanned["run"]
    assert studies.find(study.key(Budget(), False, IMAGES), root) is None
    assert studies.find(study.key(Budget(), True, IMAGES + 1), root) is None
    assert Store(root).list() == [], "no run of the list of runs"


def table(bits: dict[str, list[float]], shares: dict[str, list[float]], kind: str) -> dict[str, Any]:
    """A scan's result from accuracies at 2, 3, 4, 6, 8 bits and at 30, 50, 70, 90 %; every layer has 100 weights."""
    rows = [
        {"kind": "bits", "name": name, "value": b, "size": 100, "score": a}
        for name, accuracies in bits.items()
        for b, a in zip((2, 3, 4, 6, 8), accuracies, strict=True)
    ]
    rows += [
        {"kind": kind, "name": name, "value": s, "size": 100 if kind == "weights" else 10, "score": a}
        for name, accuracies in shares.items()
        for s, a in zip((0.3, 0.5, 0.7, 0.9), accuracies, strict=True)
    ]
    return {"structured": kind == "units", "dense": 0.9, "images": 100, "rows": rows}


BITS = {"a": [0.5, 0.895, 0.9, 0.9, 0.9], "b": [0.9, 0.5, 0.9, 0.9, 0.9], "c": [0.1, 0.1, 0.1, 0.1, 0.1]}
SHARES = {"a": [0.9, 0.89, 0.8, 0.9], "b": [0.1, 0.9, 0.9, 0.9], "c": [0.9, 0.9, 0.9, 0.9]}


def test_the_rule_stops_at_the_first_setting_that_loses_too_much() -> None:
    scan = table(BITS, SHARES, "weights")
    assert fewest_bits(scan, 1.0) == {"a": 3, "b": 4, "c": 16}
    assert fewest_bits(scan, 0.0) == {"a": 4, "b": 4, "c": 16}
    assert fewest_bits(scan, 80.0) == {"a": 2, "b": 2, "c": 2}
    assert most_sparsity(scan, 1.0, "weights") == {"a": 0.5, "b": 0.0, "c": 0.9}
    assert most_sparsity(scan, 10.0, "weights") == {"a": 0.9, "b": 0.0, "c": 0.9}


def test_the_rule_becomes_bounds_that_each_method_can_meet() -> None:
    def bounded(kind: str, budget: Budget) -> Budget:
        return as_budget(table(BITS, SHARES, kind), 1.0, budget, methods.get(budget.method))

    budget = bounded("weights", Budget(method="opq", bits=2, sparsity=0.1))
    assert budget.layers["a"] == {"weight_bits": [3, 16], "sparsity": 0.5}
    assert budget.asks["sparsity"] == pytest.approx((0.5 + 0.0 + 0.9) / 3, abs=1e-4)
    assert budget.asks["bits"] == 4.5, "710 bits for 160 weights are 4.44 on average"
    exact = bounded("weights", Budget(method="ptq"))
    assert exact.layers["a"]["weight_bits"] == [3, 3]
    units = bounded("units", Budget(sparsity=0.8, weight_bits=(4, 8)))
    assert units.groups == {"a": {"sparsity": [0.0, 0.5]}, "b": {"sparsity": [0.0, 0.0]}, "c": {"sparsity": [0.0, 0.9]}}
    assert units.layers["b"] == {"weight_bits": [4, 8]}
    assert units.layers["c"] == {"weight_bits": [16, 16]}
    assert units.asks["sparsity"] == pytest.approx(14 / 30, abs=1e-4)


def test_the_map_frames_what_the_rule_takes() -> None:
    measured = table(BITS, {"g": SHARES["a"]}, "units")
    info = sensitivity_info(measured, ["a", "b"], {"a": "g", "b": "g"}, {"a": 3, "b": 16}, {"g": 0.5})
    assert info.settings == ("8 bits", "6 bits", "4 bits", "3 bits", "2 bits", "−30 %", "−50 %", "−70 %", "−90 %")
    assert info.lost[0][-2] == info.lost[1][-2] == pytest.approx(10), "tied layers show their group"
    assert set(info.chosen) == {("a", "3 bits"), ("a", "−50 %"), ("b", "−50 %")}
    figure = sensitivity_figure(info)
    weak, strong = figure.data[1:]
    assert ("3 bits", "a", "0.5") in list(zip(weak.x, weak.y, weak.text, strict=True))
    assert ("2 bits", "a", "40") in list(zip(strong.x, strong.y, strong.text, strict=True))
    frames = {(shape.x0 + shape.x1, shape.y0 + shape.y1, shape.x1 - shape.x0 < 1) for shape in figure.layout.shapes}
    assert frames == {(6, 0, True), (12, 0, True), (12, 2, True)}, "around the cell, and not across its number"


def test_the_page_offers_watches_and_uses_the_scan(open_page: Open, tmp_path: Path) -> None:  # noqa: F811
    app = open_page(part="Sensitivity", method="OPQ")
    explained = {caption.value for caption in app.caption}
    app.button(key="begin sensitivity").click().run()
    assert errors(app) == []
    (folder,) = (tmp_path / "runs" / studies.FOLDER).glob("sensitivity-*/")
    assert "begin sensitivity" not in [button.key for button in app.button]
    result = runs.wait(folder.name, folder.parent, timeout=SECONDS)
    app = open_page(part="Sensitivity", method="OPQ")
    assert len(app.get("plotly_chart")) == 1
    app.number_input(key="points").set_value(2.0).run()
    next(button for button in app.button if button.label == "Use as budget").click().run()
    assert errors(app) == []
    layers = app.session_state["draft"].layers
    assert {name: entry["weight_bits"][0] for name, entry in layers.items()} == fewest_bits(result, 2.0)
    shares = most_sparsity(result, 2.0, "weights")
    assert {name: entry["sparsity"] for name, entry in layers.items()} == shares
    sizes = {row["name"]: row["size"] for row in result["rows"]}
    zeros = sum(share * sizes[name] for name, share in shares.items())
    assert app.slider(key="ask sparsity").value == pytest.approx(zeros / sum(sizes.values()), abs=1e-3)
    app = open_page(part="Sensitivity", method="OPQ", data="none")
    assert "use_scan" not in [button.key for button in app.button]
    assert any(each.value.startswith(f"{text} ") for each in app.caption for text in explained), "why there is none"


def test_the_command_shows_what_was_measured(scanned: dict[str, Any], root: Path) -> None:
    line = [sys.executable, "-m", "compression", "sensitivity", "--model", "resnet8", "--data", "mnist5k"]
    line += ["--images", str(IMAGES), "--runs", str(root)]
    answered = subprocess.run([*line, "--within", "3", "--json", "-"], capture_output=True, text=True, timeout=SECONDS)
    value = json.loads(answered.stdout)
    assert value["rows"] == scanned["rows"]
    expected = fewest_bits(scanned, 3.0)
    assert {name: entry["weight_bits"][0] for name, entry in value["budget"]["layers"].items()} == expected
    assert Budget.from_dict(value["budget"]).method == "geta"
    assert len(list((root / studies.FOLDER).glob("*/"))) == 1, "nothing was measured twice"
    wrong = subprocess.run([*line, "--within", "200"], capture_output=True, text=True, timeout=SECONDS)
    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_a_scan_that_is_stopped_is_not_taken_for_a_result(root: Path) -> None:
    job = study.measure(Budget(), root, False, 399)
    runs.cancel(job, root / studies.FOLDER)
    folder = studies.find(study.key(Budget(), False, 399), root)
    assert isinstance(folder, RunFolder)
    assert folder.state in ("cancelled", "done")
