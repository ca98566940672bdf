"""What the Budget page says that a budget comes to: against finished runs of the gallery, and counted by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened import Open, errors
from safetensors.numpy import load_file

from app import nav
from app.budget import forecast_panel, live_forecast, permalink
from app.model import catalog
from compression import methods
from compression.budget import Budget
from compression.cli.forecast import describe_forecast
from compression.forecast import Forecast, Subject
from compression.graph import Graph
from compression.methods.ptq import Ptq

RESNET8 = catalog.ChosenModel("resnet8", "mnist5k", (1, 28, 28), 10)
RUNS = nav.ROOT / "assets" / "gallery" / "resnet8-mnist5k"
FLOATS = 4  # bytes of what is not quantized


def weights() -> Path:
    path = catalog.weights_file(RESNET8)
    assert path is not None
    return path


@cache
def run(name: str) -> tuple[Budget, dict[str, Any], Forecast, Graph]:
    """The budget of a gallery run, its last point, the forecast of that budget, and the network."""
    budget = Budget.from_dict(json.loads((RUNS / name / "spec.json").read_text())["budget"])
    final = json.loads((RUNS / name / "result.json").read_text())["final"]
    return budget, final, live_forecast.forecast(RESNET8, weights(), budget), catalog.traced(RESNET8).graph


@pytest.mark.parametrize("name", ["magnitude", "ptq", *(f"opq-0{number}" for number in range(1, 6))])
def test_what_follows_from_the_weights_is_what_the_run_then_gave(name: str) -> None:
    budget, final, forecast, _ = run(name)
    assert forecast.certainty == "exact"
    assert forecast.low == forecast.high
    assert forecast.low is not None
    assert forecast.low.nominal_bytes == final["nominal_bytes"]
    assert (forecast.low.macs, forecast.low.rel_bops) == (final["macs"], pytest.approx(final["rel_bops"]))
    assert {layer.name: layer.bits[0] for layer in forecast.layers} == {
        layer: bits["weight"] for layer, bits in final["bits"].items()
    }
    if "sparsity" in methods.get(budget.method).values(budget):  # rounding alone makes zeros that nobody asked for
        count = sum(math.prod(layer.shape) for layer in forecast.layers)
        assert sum(layer.zeros for layer in forecast.layers) == round(final["weight_sparsity"] * count)


@pytest.mark.parametrize("name", ["geta", "geta-gentle", "geta-activations", "sequential"])
def test_what_training_decides_lies_within_the_forecast(name: str) -> None:
    _, final, forecast, graph = run(name)
    assert forecast.certainty == "even"
    assert forecast.units == round(final["unit_sparsity"] * graph.prunable_units)
    for layer in forecast.layers:
        low, high = layer.bits
        assert low <= final["bits"][layer.name]["weight"] <= high
    assert forecast.low is not None
    assert forecast.high is not None
    assert forecast.bytes == (forecast.low.nominal_bytes, forecast.high.nominal_bytes)
    floats = FLOATS * (forecast.low.params - sum(math.prod(layer.kept_shape) for layer in forecast.layers))
    ends = (sum(layer.low_bytes for layer in forecast.layers), sum(layer.high_bytes for layer in forecast.layers))
    assert forecast.bytes == pytest.approx([floats + end for end in ends]), "the rows and the total agree"


def test_size_and_error_are_counted_by_hand_on_the_weights_file() -> None:
    """Magnitude's: the smallest weights of the file at zero, positions by their entropy, and its own step's error."""
    budget, _, forecast, graph = run("magnitude")
    tensors = {name: tensor for name, tensor in load_file(weights()).items() if tensor.ndim > 1}
    size = sum(tensor.size for tensor in tensors.values())
    flat = np.sort(np.concatenate([np.abs(tensor).ravel() for tensor in tensors.values()]))
    threshold = flat[round(budget.asks["sparsity"] * size)]
    total, error, energy = FLOATS * (graph.params - size + len(tensors)), 0.0, 0.0
    for layer in forecast.layers:
        weight = tensors[f"{layer.name}.weight"].astype(np.float64)
        zeros = int((np.abs(weight) < threshold).sum())
        assert layer.zeros == zeros
        share = zeros / weight.size
        entropy = -sum(p * math.log2(p) for p in (share, 1 - share) if p)
        total += ((weight.size - zeros) * budget.asks["bits"] + weight.size * entropy) / 8
        assert layer.allocation is not None
        codes = np.clip(np.round(weight / layer.allocation.step), -7, 7)
        alive = np.abs(weight) >= threshold
        codes = np.where(alive & (codes == 0), np.sign(weight), codes) * alive
        error += float(((weight - codes * layer.allocation.step) ** 2).sum())
        energy += float((weight**2).sum())
    assert forecast.bytes == (pytest.approx(total), pytest.approx(total))
    assert forecast.error == pytest.approx(error / energy, rel=1e-4)


def test_the_words_on_a_forecast_are_what_it_counts() -> None:
    """Nominal sizes are not called coded, and channels are named only where channels are counted."""
    kinds = {name: run(name)[2] for name in ("ptq", "magnitude", "geta")}
    assert [forecast.bytes_kind for forecast in kinds.values()] == ["nominal", "ideal", "nominal"]
    assert kinds["ptq"].to_dict()["bytes_kind"] == "nominal"
    texts = {name: forecast_panel.basis(forecast, weights()) for name, forecast in kinds.items()}
    assert "nominal" in texts["ptq"] and "larger" in texts["ptq"]
    assert "coded ideally" in texts["magnitude"]
    assert "channels" in texts["geta"]
    without = replace(kinds["geta"], removed={})
    network = catalog.traced(RESNET8)
    assert "channels" not in forecast_panel.basis(without, weights())
    assert "Channels removed" in [cell[0] for cell in forecast_panel.figures(kinds["geta"], network)]
    assert "Channels removed" not in [cell[0] for cell in forecast_panel.figures(without, network)]
    value = {"model": "resnet8", "method": "ptq", "weights": "trained", **kinds["ptq"].to_dict()}
    assert "(nominal: " in describe_forecast(value).splitlines()[0]


def test_a_method_without_a_forecast_is_answered_with_no_numbers(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = Forecast.unknown("Known after its run.")
    monkeypatch.setattr(Ptq, "forecast", lambda self, subject, budget: unknown)
    for part in ("Plan", "Layers", "Sensitivity", "Saliency", "Compare budgets", "Save and load", "Before training"):
        app = open_page("budget", budget=permalink.pack(Budget(method="ptq")), part=part)
        assert errors(app) == []
        assert [metric.label for metric in app.metric] == []
        assert [caption.value for caption in app.caption].count(*unknown.notes) == 1
        assert not app.button(key="start").disabled
    app = open_page("budget", budget=permalink.pack(Budget(method="ptq")), part="Compare budgets")
    app.button(key="keep_a").click().run()
    app.button_group(key="method").set_value("magnitude").run()
    table = app.table[0].value.set_index("")
    size = next(metric.value for metric in app.metric if metric.label == "Size")
    assert table.loc["size"].tolist() == ["–", size, ""]
    overlay = open_page("groups", budget=permalink.pack(Budget(method="ptq")))
    assert errors(overlay) == []


def test_weights_that_a_method_changes_first_are_forecast_live() -> None:
    """As outside of the server, and of the changed weights."""
    plain, _, before, graph = run("ptq")
    budget = plain.replace(options={**plain.options, "equalize": "cle"})
    live = live_forecast.forecast(RESNET8, weights(), budget)
    alone = Ptq().forecast(Subject(catalog.loaded(RESNET8, str(weights())), graph), budget)
    assert live.error == pytest.approx(alone.error)
    assert live.error is not None
    assert before.error is not None
    assert live.error < before.error
