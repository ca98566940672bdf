"""The pages without a browser: in an empty and a full store, with wrong addresses and bad files; never a traceback."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from opened import Open, errors, folds
from streamlit.testing.v1 import AppTest
from written import finished

from app import nav, options, timing, words
from app.budget import budget_upload, draft, forecast_panel, live_forecast
from app.groups import dependency_text
from app.model import catalog
from compression import methods, runs
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import spread_units
from compression.graph import Code, Reason
from compression.jobs import studies
from compression.pruning.target import UnitCount
from compression.runs.folder import RunFolder
from compression.training.dense import evaluate
from tests.waiting import PATIENCE

RESNET8 = catalog.ChosenModel("resnet8", "mnist5k", (1, 28, 28), 10)


@pytest.mark.parametrize("name", nav.PAGES)
def test_every_page_answers_its_question_in_an_empty_store(open_page: Open, name: str) -> None:
    app = open_page(name)
    assert app.title[0].value == nav.PAGES[name].question
    assert errors(app) == []


@pytest.mark.parametrize("name", ["start", "runs"])
def test_finished_runs_are_shown(open_page: Open, tmp_path: Path, name: str) -> None:
    run = finished(tmp_path / "runs")
    finished(tmp_path / "runs", budget=Budget(method="opq", sparsity=0.7))
    app = open_page(name, run=run)
    assert errors(app) == []
    assert len(app.get("plotly_chart")) == (6 if name == "runs" else 1)
    if name == "runs":
        assert app.query_params["run"] == [run] or app.query_params["run"] == run
        assert "5.00 kB" in [metric.value for metric in app.metric]
        assert "97.0 %" in [metric.value for metric in app.metric]


def _fresh(code: str) -> str:
    """What ``code`` prints in another interpreter, run beside the app."""
    environment = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true", "PYTHONPATH": str(nav.ROOT)}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, cwd=nav.ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_start_needs_no_torch(tmp_path: Path) -> None:
    """The whole page with a run of one's own and the gallery: texts, picture, cards and recent runs."""
    finished(tmp_path)
    code = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"sys.argv = ['app/main.py', '--runs', {str(tmp_path)!r}]\n"
        f"app = AppTest.from_file({str(nav.ROOT / 'app' / 'main.py')!r}, default_timeout={PATIENCE}).run()\n"
        "assert not app.exception and not app.error\n"
        "assert app.button(key='try')\n"
        "print(app.title[0].value, len(app.subheader), len(app.get('plotly_chart')),\n"
        "      *(name for name in ('torch', 'scipy') if name in sys.modules), sep='|')\n"
    )
    assert _fresh(code).strip() == f"{nav.PAGES['start'].question}|2|1"


def test_the_server_imports_torch_after_the_first_page() -> None:
    code = (
        "import asyncio, sys, threading\n"
        "from app import serving\n"
        "serving.IDLE_SECONDS, serving.DELIVERY_SECONDS = 600, 0\n"
        "async def start():\n"
        "    async with serving.started(None):\n"
        "        (thread,) = threading.enumerate()[1:]\n"
        "        thread.join(0.5)\n"
        "        print(thread.is_alive(), 'torch' in sys.modules)\n"
        "        serving.first_page.set()\n"
        "        thread.join()\n"
        "        print('torch' in sys.modules)\n"
        "asyncio.run(start())\n"
    )
    assert _fresh(code).split() == ["True", "False", "True"]


@pytest.mark.parametrize(
    ("name", "query", "message"),
    [
        ("groups", {"model": "nosuch"}, "not offered here"),
        ("groups", {"model": "/etc/passwd.py:main"}, "not offered here"),
        ("model", {"model": "torchvision:nosuch", "data": "none"}, "o classifier 'nosuch'"),
        ("budget", {"data": "../secrets"}, "not offered here"),
        ("runs", {"run": "../../etc"}, "No run"),
    ],
)
def test_a_wrong_address_gets_one_line(
    open_page: Open, tmp_path: Path, name: str, query: dict[str, str], message: str
) -> None:
    finished(tmp_path / "runs")
    lines = errors(open_page(name, **query))
    assert len(lines) == 1
    assert message in lines[0]
    assert "\n" not in lines[0]


def test_a_group_is_reported_with_its_ties(open_page: Open) -> None:
    app = open_page("groups", group="conv1")
    assert app.selectbox(key="pick_group").value == "conv1"
    assert any("317 parameters" in element.value for element in app.markdown)
    text = "\n".join(element.value for element in app.markdown)
    add = Reason(Code.residual_add)
    assert f"- {dependency_text.tie(add, 'layer1.0:add', ['layer1.0.conv2', 'conv1'])}" in text.split("\n")
    app.selectbox(key="pick_group").set_value("linear").run()
    output = Reason(Code.next_to_output)
    assert any(element.value.endswith(f": {output}.") for element in app.markdown)
    assert dependency_text.frozen(output, "linear") in [element.value for element in app.markdown]
    assert not app.exception


LOOKING = """
from torch import nn

class Looking(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.GroupNorm(1, 4), nn.Linear(4, 10)

    def forward(self, x):
        x = self.norm(self.conv(x)).mean((2, 3))
        return self.head(x if x.sum() < 9 else -x)

def make():
    return Looking(), (1, 28, 28)
"""


def test_values_read_and_units_behind_a_norm_are_reported(open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "looking.py"
    file.write_text(LOOKING)
    app = open_page("groups", "--model", f"{file}:make", model=f"{file}:make", group="conv")
    assert any("looking.py:11 (return self.head(x if" in element.value for element in app.info)
    averages = Reason(Code.norm_averages, {"norm": "a group norm"})
    assert dependency_text.frozen(averages, "norm") in [element.value for element in app.markdown]
    assert any("inexact=True" in element.value for element in app.caption)
    app.selectbox(key="pick_group").set_value("head").run()
    assert not any("inexact=True" in element.value for element in app.caption)


def test_detail_search_and_opened_modules(open_page: Open) -> None:
    app = open_page("groups", model="vit_tiny", data="cifar10")
    assert app.selectbox(key="detail").value == "layers", "36 boxes need no merging"
    app.selectbox(key="detail").set_value("blocks2").run()
    assert list(app.multiselect(key="opened").options) == [f"blocks.{i}" for i in range(4)]
    app.multiselect(key="opened").set_value(["blocks.1"]).run()
    assert list(app.multiselect(key="opened").options)[:3] == ["blocks.1", "blocks.0", "blocks.1.attention"]
    app.text_input(key="graph_search").set_value("attention").run()
    assert app.session_state["graph_view"] == "Search"
    assert any("nodes hold “attention”" in element.value for element in app.caption)
    for number in (1, 2):
        app.button(key="next_hit").click().run()
        assert any(f"Shown: number {number}." in element.value for element in app.caption)
    app.text_input(key="graph_search").set_value("nosuch").run()
    assert [("“nosuch”" in element.value, element.icon) for element in app.info] == [(True, ":material/search_off:")]
    app.text_input(key="graph_search").set_value("").run()
    assert app.session_state["graph_view"] == "Whole graph"
    assert not app.exception


def test_quantizers_are_drawn_merged_and_as_traced(open_page: Open) -> None:
    app = open_page("groups", group="layer2.0.conv1")
    assert app.get("button_group")[0].disabled, "a float network has nothing to merge"
    assert folds(app) == ["graph_fold", "ties_fold"] and len(app.expander) == 2
    detail = app.selectbox(key="detail")
    float_boxes, every = (int(option.rpartition(" ")[2]) for option in detail.options[-2:])
    app.selectbox(key="quantizers").set_value("plain").run()
    merged = app.selectbox(key="detail").options
    assert merged[-1] == f"Operations · {every + 10}", "one node for the input of each of ten layers"
    assert merged[-2] == f"Layers · {float_boxes + 10}"
    assert {"close_as_traced_fold", "close_merged_fold"} <= set(folds(app))
    assert any(folded.label.endswith(": layer2.0.conv1") for folded in app.expander)
    app.session_state["close_merged_fold"] = True
    app.run()
    tables = [frame.value for frame in app.dataframe if "leads to" in frame.value.columns]
    assert [len(table) for table in tables] == [3], "as many boxes as are drawn"
    texts = [element.value for element in app.markdown]
    assert "**Merged**: 3 nodes" in texts
    assert any("quantization-aware dependency graph" in element.value for element in app.caption)
    app.button_group(key="quantizers_drawn").set_value("as traced").run()
    assert int(app.selectbox(key="detail").options[-1].rpartition(" ")[2]) > 10 * every / 2
    assert app.selectbox(key="pick_group").value == "layer2.0.conv1", "the same groups"
    app.selectbox(key="quantizers").set_value("").run()
    assert not app.exception
    assert app.session_state["quantizers_drawn"] == "merged"


def test_a_link_opens_model_data_and_group(open_page: Open) -> None:
    app = open_page("groups", model="mobilenet_small", data="cifar10", group="stem.0")
    assert app.selectbox(key="pick_group").value == "stem.0"
    app = open_page("model", model="mobilenet_small", data="cifar10")
    app.selectbox(key="pick_model").set_value("resnet8").run()
    assert app.session_state["at_data"] == "mnist5k", "data that fit the new model"
    assert app.session_state["at_group"] == "", "a group of the old model is forgotten"


def test_sliders_answer_with_the_exact_number_of_units(open_page: Open) -> None:
    app = open_page("budget")
    for share in (0.0, 0.29, 0.5, 0.9):
        app.slider(key="ask sparsity").set_value(share).run()
        assert [m.value for m in app.metric if m.label == "Channels removed"] == [str(math.floor(share * 112 + 1e-9))]
    most = app.slider(key="ask sparsity").max
    assert most == 0.94, "one unit always stays in every group"
    app.slider(key="ask sparsity").set_value(most).run()
    assert errors(app) == []
    assert [m.value for m in app.metric if m.label == "Channels removed"] == ["105"]


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.77, 0.9])
def test_the_spread_has_exactly_k_units_within_bounds(sparsity: float) -> None:
    graph = catalog.traced(RESNET8).graph
    bounds = {"conv1": {"sparsity": [0.0, 0.25]}, "layer3.0.conv1": {"sparsity": [0.1, 1.0]}}
    counts = spread_units(graph, UnitCount.of_share(max(sparsity, 0.1), graph.prunable_units), bounds)
    assert sum(counts.values()) == math.floor(max(sparsity, 0.1) * 112 + 1e-9)
    assert counts["conv1"] <= 2
    assert counts["layer3.0.conv1"] >= 4
    assert all(counts[group.id] < group.units for group in graph.prunable)


def forecast(budget: Budget) -> Any:
    """What the page shows of a budget, on seeded initial weights."""
    return live_forecast.forecast(RESNET8, None, budget)


def test_forecasts_are_counted_by_hand() -> None:
    graph = catalog.traced(RESNET8).graph
    dense = forecast(Budget(sparsity=0.0, weight_bits=(8, 8)))
    weights = sum(math.prod(layer.shape) for layer in graph.layers)
    assert dense.bytes[0] == dense.bytes[1] == weights + 4 * (19_810 - weights) + 4 * len(graph.layers)
    assert dense.low.rel_bops == pytest.approx(8 / 32)
    channels = forecast(Budget(sparsity=0.0, weight_bits=(8, 8), options={"weights": "channel"}))
    assert channels.bytes[0] - dense.bytes[0] == 4 * sum(layer.shape[0] - 1 for layer in graph.layers)
    opq = forecast(Budget(method="opq", sparsity=0.7))
    assert sum(layer.zeros for layer in opq.layers) == round(0.7 * weights)
    assert opq.error is not None
    assert 0 < opq.error < 1


def chosen(app: AppTest, method: str) -> AppTest:
    return app.pills(key="method").set_value(method).run()


def test_every_method_shows_only_what_it_follows(open_page: Open) -> None:
    app = open_page("budget")
    assert list(app.pills(key="method").options)[:2] == ["GETA", "OPQ"]
    expected = {
        "geta": {"ask sparsity", "ask weight_bits"},
        "opq": {"ask sparsity", "ask bits"},
        "sequential": {"ask sparsity", "ask weight_bits"},
        "magnitude": {"ask sparsity", "ask bits"},
        "ptq": {"ask bits"},
    }
    for method, sliders in expected.items():
        chosen(app, method)
        assert errors(app) == []
        assert {s.key for s in app.slider if not s.key.startswith("bound ")} == sliders
        fields = [n.key for n in app.number_input if not n.key.startswith("option ")]
        assert fields == ([] if method == "ptq" else ["epochs", "seed", "lr", "batch_size"])
        assert any(methods.get(method).info.sentence == element.value for element in app.caption)
        assert app.button(key="start").label == f"Start {methods.get(method).info.label} run"
        assert (len([t for t in app.toggle if t.key == "ask activation_bits on"]) == 1) == (
            method in ("geta", "sequential", "ptq")
        )


def test_the_draft_of_a_baseline_asks_what_the_page_shows(open_page: Open) -> None:
    app = chosen(open_page("budget"), "ptq")
    app.slider(key="ask bits").set_value(3).run()
    app.toggle(key="ask activation_bits on").set_value(True).run()
    app.slider(key="ask activation_bits").set_value(6).run()
    app.selectbox(key="option ptq clip").select("max").run()
    assert errors(app) == []
    error = {m.label: m.value for m in app.metric}["Error of the weights"]
    app.selectbox(key="option ptq clip").select("mse").run()
    better = {m.label: m.value for m in app.metric}["Error of the weights"]
    assert float(better.rstrip(" %")) < float(error.rstrip(" %"))


def test_a_baseline_started_on_the_page_runs_to_its_end(open_page: Open, tmp_path: Path) -> None:
    app = chosen(open_page("budget", layer="conv1"), "ptq")
    app.slider(key="ask bits").set_value(3).run()
    app.selectbox(key="option ptq clip").select("max").run()
    planned = {metric.label: metric.value for metric in app.metric}
    app.button(key="start").click().run()
    assert not app.exception
    (folder,) = (tmp_path / "runs").glob("ptq-*/")
    result = runs.wait(folder.name, tmp_path / "runs", timeout=PATIENCE)
    requested = RunFolder.open(tmp_path / "runs", folder.name).budget()
    assert (requested.method, requested.asks["bits"], "sparsity" in requested.asks) == ("ptq", 3, False)
    assert requested.options == {"clip": "max"}
    assert result["status"] == "done"
    assert words.size(result["final"]["nominal_bytes"]) == planned["Size"]
    assert planned["BOPs"] == f"{100 * result['final']['rel_bops']:.3g} %"
    app = open_page("runs", run=folder.name)
    assert errors(app) == []
    assert any("3 bits" in element.value for element in app.markdown)
    text = "\n".join(element.value for element in app.text)
    assert methods.get("ptq").describe(RunFolder(folder).budget()) in text
    assert "not used" not in text


def test_the_smallest_good_enough_is_searched_for_and_opened(open_page: Open, tmp_path: Path) -> None:
    app = chosen(open_page("budget"), "ptq")
    app.toggle(key="find_smallest").set_value(True).run()
    app.button_group(key="least_lost").set_value(5.0).run()
    app.button_group(key="sweep_bits").set_value([2.0, 4.0, 8.0]).run()
    app.button(key="start_sweep").click().run()
    assert errors(app) == []
    (folder,) = (tmp_path / "runs").glob("sweep-*/")
    result = runs.wait(folder.name, tmp_path / "runs", timeout=PATIENCE)
    subject = catalog.subject("resnet8", "mnist5k")
    dense = evaluate(catalog.loaded(subject, str(catalog.weights_file(subject))), catalog.load_task(subject))
    assert result["min_accuracy"] == pytest.approx(dense.score - 0.05)
    tried = {run["run"]: run["final"]["accuracy"] for run in result["runs"]}
    assert 0 < len(tried) < 3
    assert tried[result["found"]] > dense.score - 0.06
    app = open_page("runs", run=folder.name)
    app.button(key="found").click().run()
    assert errors(app) == []
    assert app.query_params["run"] in (result["found"], [result["found"]])


@pytest.mark.parametrize(("method", "budgets", "charts"), [("opq", 35, 2), ("ptq", 5, 1)])
def test_accuracy_without_training_is_measured_in_the_background(
    open_page: Open, tmp_path: Path, method: str, budgets: int, charts: int
) -> None:
    """Of every method that allocates; one that removes nothing has no chart over the sparsity."""
    app = open_page("budget", method=method, part="Before training")
    before = len(app.get("plotly_chart"))
    explained = {caption.value for caption in app.caption}
    app.button(key="begin curve").click().run()
    assert errors(app) == []
    (folder,) = (tmp_path / "runs" / studies.FOLDER).glob("curve-*/")
    assert "begin curve" not in [button.key for button in app.button], "one at a time"
    result = runs.wait(folder.name, folder.parent, timeout=PATIENCE)
    assert (len(result["rows"]), len({row["error"] for row in result["rows"]})) == (budgets, budgets)
    app = open_page("budget", method=method, part="Before training")
    assert len(app.get("plotly_chart")) == before + charts
    assert any(f"{result['images']} images" in element.value for element in app.caption)
    app = open_page("budget", method=method, part="Before training", data="none")
    assert "begin curve" not in [button.key for button in app.button]
    assert any(each.value.startswith(f"{text} ") for each in app.caption for text in explained), "and why it is not"


def test_a_loaded_budget_sets_the_sliders_of_its_method() -> None:
    budget = Budget(method="sequential", weight_bits=(4, 7), activation_bits=(4, 6), sparsity=0.3)
    removal = {"sparsity": 0.3, "macs": None, "bops": None}
    assert draft.values(budget) == {**removal, "weight_bits": 7, "activation_bits": 6}
    assert draft.values(Budget(method="ptq", bits=5.5)) == {"bits": 5, "activation_bits": None}
    assert draft.values(Budget(weight_bits=(3.5, 7.5)))["weight_bits"] == (4, 7), "whole ends, as a slider has them"


@pytest.mark.parametrize(
    ("changes", "bops"),
    [
        ({"method": "ptq", "bits": 4.0}, 4 / 32),
        ({"method": "ptq", "bits": 4.0, "activation_bits": (2, 8)}, 4 / 32 * 8 / 32),
        ({"method": "magnitude", "bits": 6.0, "sparsity": 0.5}, 6 / 32),
        ({"method": "sequential", "weight_bits": (4, 8), "sparsity": 0.0}, 8 / 32),
    ],
)
def test_plans_of_baselines_are_counted_by_hand(changes: dict[str, Any], bops: float) -> None:
    graph = catalog.traced(RESNET8).graph
    budget = Budget(**changes)
    planned = forecast(budget)
    assert planned.low.rel_bops == planned.high.rel_bops == pytest.approx(bops)
    sizes = [math.prod(layer.shape) for layer in graph.layers]
    bits = round(bops * 32) if budget.asks.get("activation_bits") is None else 4
    if budget.method == "magnitude":
        zeros = round(0.5 * sum(sizes))
        assert sum(row["at zero"] for row in forecast_panel.rows(planned)) == zeros
        assert {row["bits"] for row in forecast_panel.rows(planned)} == {6}
        least = (sum(sizes) - zeros) * bits / 8 + 4 * (graph.params - sum(sizes) + len(sizes))
        assert least < planned.bytes[0] < least + sum(sizes) / 8, "positions cost at most one bit a weight"
    else:
        expected = sum(sizes) * bits / 8 + 4 * (graph.params - sum(sizes) + len(sizes))
        assert planned.bytes == (pytest.approx(expected), pytest.approx(expected))


def test_a_plan_of_prune_then_quantize_has_exactly_k_units_and_its_bounds() -> None:
    layers = {"conv1": {"weight_bits": [2, 3]}}
    planned = forecast(Budget(method="sequential", sparsity=0.3, layers=layers))
    assert planned.units == math.floor(0.3 * 112)
    first = next(row for row in forecast_panel.rows(planned) if row["layer"] == "conv1")
    remaining = 8 - planned.removed["conv1"]
    assert first["least bytes"] == first["most bytes"] == round(9 * remaining * 3 / 8 + 4), "its step included"


BAD_FILES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b"x" * (budget_upload.LARGEST_FILE + 1),
    json.dumps({"sparsity": 1.5}).encode(),
    b'{"sparsity": NaN}',
    json.dumps({"nope": 1}).encode(),
    json.dumps({"weights": "/etc/passwd"}).encode(),
    json.dumps({"schedule": 5}).encode(),
    json.dumps({"groups": [1]}).encode(),
    json.dumps({"layers": {"conv1": 5}}).encode(),
    json.dumps({"weight_bits": [8, 4]}).encode(),
    json.dumps({"weight_bits": "4:8"}).encode(),
    json.dumps({"epochs": 1e400}).encode(),
    json.dumps({"input": [3, "x", 2]}).encode(),
    json.dumps({"seed": 1.5}).encode(),
]


@pytest.mark.parametrize("content", BAD_FILES, ids=lambda content: str(content[:24]))
def test_a_bad_budget_file_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(CompressionError) as refused:
        budget_upload.parse(content)
    assert "\n" not in str(refused.value)


def test_a_saved_budget_loads_again() -> None:
    budget = Budget(sparsity=0.3, layers={"conv1": {"weight_bits": [3, 5]}}, lr=0.02)
    assert budget_upload.parse(json.dumps(budget.to_dict()).encode()).to_dict() == budget.to_dict()


def test_own_models_and_data_are_offered_by_name(open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def net():\n"
        "    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(80, 2)\n"
        "    return nn.Sequential(*layers), (3, 8, 8)\n"
    )
    for name in ("cats", "dogs"):
        folder = tmp_path / "data" / "pets" / name
        folder.mkdir(parents=True)
        (folder / "one.png").touch()
    model = f"{file}:net"
    app = open_page("model", "--model", model, "--data-root", str(tmp_path / "data"), model=model, data="none")
    offered = app.selectbox(key="pick_model").options
    assert offered[0] == "mine.py: net"
    assert "pets (folder)" in app.selectbox(key="pick_data").options
    assert errors(app) == []


def test_quantizers_of_an_own_model_are_merged(open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "lsq.py"
    file.write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Quantized(nn.Conv2d):\n"
        "    def __init__(self, *sizes):\n"
        "        super().__init__(*sizes)\n"
        "        self.s = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 0.1))\n"
        "    def forward(self, x):\n"
        "        return self._conv_forward(x, torch.round(self.weight / self.s) * self.s, self.bias)\n"
        "def net():\n"
        "    return nn.Sequential(Quantized(3, 4, 3), nn.ReLU(), Quantized(4, 2, 3), nn.Flatten()), (3, 8, 8)\n"
    )
    model = f"{file}:net"
    app = open_page("groups", "--model", model, model=model, data="none", group="0")
    assert not app.get("button_group")[0].disabled
    assert any(element.value.startswith("2 quantizers.") for element in app.caption)
    members = app.dataframe[1].value if "role" in app.dataframe[1].value else app.dataframe[0].value
    roles = dict(zip(members["parameter"], members["role"], strict=True))
    group = catalog.traced(catalog.subject(model, "none")).graph.group("0")
    quantizers = {member.name for member in group.members if member.role == "quantizer"}
    assert quantizers == {name for name, role in roles.items() if role == roles["0.s"]} == {"0.s"}
    assert roles["0.s"].startswith("quantizes ")
    assert any("`0.weight` quantizes" in element.value for element in app.markdown)
    every = int(app.selectbox(key="detail").options[-1].rpartition(" ")[2])
    app.button_group(key="quantizers_drawn").set_value("as traced").run()
    assert int(app.selectbox(key="detail").options[-1].rpartition(" ")[2]) == every + 2 * 3
    assert errors(app) == []


@pytest.mark.parametrize(
    "arguments",
    [["--bogus"], ["--model", "nofile.py:f"], ["--model", "app/main.py"], ["--data-root", "nofolder"]],
)
def test_wrong_app_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(CompressionError):
        options.read(["app/main.py", *arguments])


@pytest.mark.parametrize(("arguments", "lines"), [([], 0), (["--log-times"], 1)])
def test_the_server_reports_its_times_where_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], lines: int
) -> None:
    monkeypatch.setattr("sys.argv", ["app/main.py", *arguments])

    @timing.logged("the sum")
    def slow_sum() -> int:
        time.sleep(0.02)
        return 3

    assert slow_sum() == 3
    times = re.findall(r"the sum: (\d+) ms", capsys.readouterr().err)
    assert len(times) == lines
    assert all(20 <= int(each) < 2000 for each in times)


def test_arguments_of_other_programs_are_not_ours() -> None:
    assert options.read(["pytest", "--bogus"]) == options.ServerOptions()
