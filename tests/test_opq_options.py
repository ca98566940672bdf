"""OPQ's options: refused by name before a run, offered by the Budget page, and followed by its live answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from opened import opener
from streamlit.testing.v1 import AppTest

from app import nav
from app.budget import forecast_panel, live_forecast, permalink
from app.model import catalog
from compression import zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.graph import trace
from compression.methods.base import Setup
from compression.methods.opq import OPQ, allocate
from compression.methods.opq.method import arguments
from compression.methods.opq.options import OpqOptions
from compression.runs.preflight import check
from compression.tasks import task_of
from compression.training.options import TrainingOptions
from tests.stripes import striped

TASK = task_of(striped())

RESNET8 = catalog.ChosenModel("resnet8", "mnist5k", (1, 28, 28), 10)
BUDGET = Budget(method="opq", model="resnet8", data="mnist5k", sparsity=0.6, bits=3.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prune_mode": "greedy"}, "prune_mode must be one of laplace, empirical, uniform, not greedy"),
        ({"scope": 3}, "scope must be one of network, layer, not 3"),
        ({"omega": "hessian"}, "omega must be one of equal, scale, energy, or numbers by name, not hessian"),
        ({"omega": {"conv1": 0}}, "omega.conv1 must be a positive number, not 0"),
        ({"omega": {"conv1": True}}, "omega.conv1 must be a positive number"),
        ({"skip": "conv1"}, "skip must be a list of names, not 'conv1'"),
        ({"skip": [1]}, "skip must be a list of names"),
        ({"zeros": True}, "zeros must be one of exact, rounded, not true"),
        ({"tables": None}, "tables must be one of exact, laplace, not None"),
        ({"momentum": 1}, "unknown option 'momentum'; known: prune_mode"),
    ],
)
def test_wrong_values_are_refused_by_name_before_a_run(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        OPQ.check_budget(BUDGET.replace(options=options))
    if "momentum" not in options:
        with pytest.raises(CompressionError, match=message):
            allocate({"conv1": torch.randn(9)}, 0.5, 4, **options)


def test_every_default_is_that_of_the_function_and_may_be_written_out() -> None:
    layers = {"a": torch.randn(300), "b": torch.randn(200)}
    defaults = {option.name: option.default for option in OpqOptions.table()}
    OPQ.check_budget(BUDGET.replace(options={**defaults, "skip": []}))
    written_out = arguments(BUDGET.replace(options=defaults))
    assert len(written_out) == len(defaults) - len(TrainingOptions.model_fields) - 1, "all but rounding"
    assert allocate(layers, 0.5, 3, **written_out).to_dict() == allocate(layers, 0.5, 3).to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"skip": ["conv9"]}}, "skip: no layer 'conv9'"),
        ({"options": {"omega": {"conv9": 2.0}}}, "omega: no layer 'conv9'"),
        ({"options": {"skip": ["conv1"]}, "layers": {"conv1": {"sparsity": 0.1}}}, "conv1.* is left alone"),
    ],
)
def test_layers_that_are_not_there_are_refused_before_a_run(changes: dict[str, Any], message: str) -> None:
    model = zoo.build("resnet8", (1, 28, 28), 10).eval()
    task = Setup(model, trace(model, torch.zeros(1, 1, 28, 28)), TASK, BUDGET.replace(**changes))
    with pytest.raises(CompressionError, match=message):
        OPQ.check(task)
    OPQ.check(Setup(model, task.graph, task.data, BUDGET.replace(options={"skip": ["conv1"], "omega": "scale"})))
    with torch.no_grad():
        model.get_submodule("conv1").weight.view(-1)[3] = float("nan")  # type: ignore[union-attr,operator]
    with pytest.raises(CompressionError, match=r"layer conv1: .*NaN"):
        OPQ.check(Setup(model, task.graph, task.data, BUDGET))


def test_a_submitted_budget_is_checked_against_its_model() -> None:
    with pytest.raises(CompressionError, match="skip: no layer 'conv9'"):
        check(BUDGET.replace(options={"skip": ["conv9"]}))


# The Budget page -----------------------------------------------------------------------------------------------------


def answered(**options: Any) -> Any:
    return live_forecast.forecast(RESNET8, None, BUDGET.replace(options=options))


def test_the_live_answer_is_the_allocation_with_the_options() -> None:
    model = catalog.loaded(RESNET8, None)
    for options in (
        {}, {"prune_mode": "uniform"}, {"scope": "layer"}, {"zeros": "rounded"}, {"tables": "laplace"},
        {"grid": "survivor"}, {"codebook": "channel"},
    ):  # fmt: skip
        result = answered(**options)
        expected = allocate(model, 0.6, 3.5, **options)
        energy = sum(float(p.detach().double().square().sum()) for p in model.parameters() if p.dim() > 1)
        assert result.error == pytest.approx(expected.error / energy, rel=1e-9)
        rows = forecast_panel.rows(result)
        assert [row["at zero"] for row in rows] == [layer.pruned for layer in expected.layers]
        assert [row["bits"] for row in rows] == [layer.bits for layer in expected.layers]
    stored = {
        name: answered(**{name: value}).bytes[0] for name, value in (("grid", "survivor"), ("codebook", "channel"))
    }
    assert stored["codebook"] > stored["grid"]
    assert answered().error < answered(scope="layer").error < answered(scope="layer", prune_mode="uniform").error


def test_layers_left_alone_stay_in_floats_in_the_live_answer() -> None:
    less = answered(skip=["conv1"])
    assert "conv1" not in [layer.name for layer in less.layers]
    size = sum(layer.low_bytes for layer in answered().layers) - sum(layer.low_bytes for layer in less.layers)
    assert less.layers and size != 0
    assert less.bytes[0] > answered().bytes[0]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(tmp_path / "runs")])
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=60)
    app.query_params["method"] = "opq"
    return app


def test_the_page_offers_the_options_and_answers_with_them(start: AppTest) -> None:
    page = start.switch_page("../pages/budget.py").run()
    assert not page.exception, page.exception
    keys = [str(field.key).split() for field in (*page.selectbox, *page.number_input)]
    shown = {key[2] for key in keys if key[:2] == ["option", "opq"]}
    assert {option.name for option in OpqOptions.table()} - shown == {"skip"}

    def weights_error() -> str:
        return next(metric.value for metric in page.metric if metric.label == "Error of the weights")

    before = weights_error()
    page.selectbox(key="option opq prune_mode").select("uniform").run()
    assert not page.exception, page.exception
    assert weights_error() != before
    page.selectbox(key="option opq prune_mode").set_value(None).run()
    assert weights_error() == before


def test_numbers_by_layer_of_a_loaded_budget_are_kept(
    start: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = json.loads(json.dumps({"omega": {"conv1": 9.0}, "skip": ["fc"]}))
    start.query_params["budget"] = permalink.pack(BUDGET.replace(options=loaded))
    page = start.switch_page("../pages/budget.py").run()
    assert not page.exception, page.exception
    assert page.session_state["draft"].options == loaded
    empty = opener(tmp_path / "runs", monkeypatch)("budget", method="opq")
    placeholders = [each.selectbox(key="option opq omega").placeholder for each in (page, empty)]
    assert all(placeholders) and len(set(placeholders)) == 2, "not what the option is without a budget"
