"""``cx.explore`` without a browser: sliders and budget, forecast, messages of the front end, runs and their front."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("anywidget", reason="the panel needs anywidget (requirements-notebook.txt)")

import compression as cx
from compression import methods
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.plots import words
from compression.runs import results
from compression.training.dense import evaluate
from compression.widgets.explore import Explorer
from compression.zoo.weights import digest
from tests.contract.runs import DATA, network
from tests.waiting import PATIENCE

MODEL, DIGITS = "resnet8", "mnist5k"
PREFERRED = "ptq"  # takes seconds


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Explorer]:
    """A panel of the shipped network on a runs folder of this test."""
    shown = cx.explore(MODEL, DIGITS, runs=tmp_path / "runs")
    yield shown
    shown.close()


def send(panel: Explorer, **message: Any) -> dict[str, Any]:
    """A message as the front end sends it, and the answer that it sees then."""
    n = message.pop("n", panel.answer["n"] + 1)
    plain = json.loads(json.dumps({"view": "here", "n": n, **message}))
    panel._handle_custom_msg(plain, [])
    answer: dict[str, Any] = json.loads(json.dumps(panel.answer))
    assert (answer["view"], answer["n"]) == ("here", n)
    return answer


def move(panel: Explorer, field: str, value: Any) -> dict[str, Any]:
    return send(panel, kind="move", field=field, value=value)


def figure(answer: dict[str, Any], kind: str) -> str:
    return next(str(cell["value"]) for cell in answer["figures"] if cell["kind"] == kind)


@pytest.mark.parametrize("method", methods.names())
def test_the_sliders_of_every_method_are_its_budget(method: str, panel: Explorer) -> None:
    """Each end of each slider becomes the budget's value, alternatives in turn; the whole form goes both ways."""
    answer = send(panel, kind="method", name=method)
    assert panel.budget.method == method
    asks = {ask.field: ask for ask in methods.get(method).asks}
    for control in panel.fields["controls"]:
        for end in (control["low"], control["high"]):
            value = [end, end] if control["kind"] == "range" else end
            answer, field = move(panel, control["field"], value), control["field"]
            assert answer["values"][field] == value
            assert panel.budget.asks[field] == asks[field].accept(tuple(value) if isinstance(value, list) else value)
    shown = {**answer["values"], "seed": 7}
    move(panel, "seed", 7)
    requested = panel.budget
    panel.budget = Budget(method=method)
    if methods.get(method).trains(requested):
        assert panel.budget.seed == 0
    for control in panel.fields["controls"]:
        if shown[control["field"]] is not None:
            move(panel, control["field"], shown[control["field"]])
    move(panel, "seed", 7)
    again = panel.budget
    assert {name: again.asks[name] for name in asks} == {name: requested.asks[name] for name in asks}


def test_the_forecast_is_that_of_the_command(panel: Explorer, tmp_path: Path) -> None:
    move(panel, "sparsity", 0.3)
    move(panel, "activation_bits", [6, 8])
    answer = move(panel, "weight_bits", [3, 5])
    out = tmp_path / "forecast.json"
    line = f"forecast --model {MODEL} --data {DIGITS} --sparsity 0.3 --bits 3:5 --activation-bits 6:8"
    assert main([*line.split(), "--method", panel.budget.method, "--json", str(out)]) == 0
    expected = json.loads(out.read_text())
    assert figure(answer, "bytes") == words.between(*expected["bytes"], words.size)
    assert figure(answer, "macs") == words.count(expected["low"]["macs"])
    assert figure(answer, "unit") == str(sum(expected["removed"].values()))


def test_a_budget_moves_the_sliders_and_stays_with_the_panels_model(panel: Explorer) -> None:
    layer = "layer1.0.conv1"
    panel.budget = Budget(model="resnet20", data="cifar10", sparsity=0.25, layers={layer: {"weight_bits": [5, 6]}})
    assert panel.answer["values"]["sparsity"] == 0.25
    assert (panel.budget.model, panel.budget.data) == (MODEL, DIGITS)
    assert panel.budget.layers == {layer: {"weight_bits": [5, 6]}}
    before = panel.budget
    with pytest.raises(CompressionError, match="unknown method"):
        panel.budget = Budget(method="nonsense")
    assert panel.budget == before
    panel.budget = before.replace(groups={panel._subject.subject.graph.prunable[0].id: {"sparsity": [0.0, 0.1]}})
    (slider,) = [each for each in panel.fields["controls"] if each["field"] == "sparsity"]
    assert slider["high"] < 0.94


def test_what_cannot_be_met_is_said_and_cannot_be_started(panel: Explorer) -> None:
    answer = move(panel, "sparsity", 0.98)
    assert answer["problem"] and not answer["possible"] and answer["figures"] == []
    panel._handle_custom_msg({"kind": "press", "action": "start"}, [])
    assert panel.live["problem"] and panel.run is None
    assert move(panel, "sparsity", 0.5)["possible"]


NONSENSE: list[Any] = [
    None, 5, [], "start", {}, {"kind": "nonsense"}, {"kind": "press"}, {"kind": "press", "action": "__class__"},
    {"kind": "press", "action": "start", "more": 1},
    {"kind": "move", "view": "v", "n": -1, "field": "seed", "value": 1},
    {"kind": "method", "view": "v", "n": 1, "name": {"a": 1}}, {"kind": "use", "view": "v", "n": 1},
]  # fmt: skip
REFUSED: list[dict[str, Any]] = [
    {"kind": "move", "field": "nonsense", "value": 1}, {"kind": "move", "field": "sparsity", "value": 1.5},
    {"kind": "move", "field": "sparsity", "value": [0.1, 0.2]},
    {"kind": "move", "field": "weight_bits", "value": [8, 4]},
    {"kind": "move", "field": "epochs", "value": -1}, {"kind": "move", "field": "epochs", "value": None},
    {"kind": "move", "field": "seed", "value": 0.5}, {"kind": "move", "field": "schedule", "value": 1},
    {"kind": "method", "name": "<script>"}, {"kind": "use", "run": "../../etc"},
]  # fmt: skip


@pytest.mark.parametrize("content", NONSENSE)
def test_nonsense_from_the_front_end_is_refused_in_one_line(content: Any, panel: Explorer) -> None:
    before = panel.budget
    panel._handle_custom_msg(content, [])
    assert panel.answer["problem"] and "\n" not in panel.answer["problem"]
    assert panel.budget == before and panel.run is None


def test_impossible_moves_are_refused_and_nothing_moves(panel: Explorer) -> None:
    before = panel.budget
    for message in REFUSED:
        assert send(panel, **message)["problem"], message
        assert panel.budget == before, message


class Unfinished(nn.Module):
    """No layer to compress."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :4]


@pytest.mark.parametrize(
    ("model", "data", "more", "reason"),
    [
        ("resnet80", DIGITS, {}, "resnet80"),
        (MODEL, "mnist", {}, "mnist"),
        (MODEL, DIGITS, {"method": "nonsense"}, "unknown method"),
        (MODEL, DIGITS, {"nonsense": 1}, "unknown field"),
        (MODEL, DIGITS, {"sparsity": 2}, "sparsity"),
        (MODEL, DIGITS, {"options": {"nonsense": 1}}, "nonsense"),
        ("resnet20", DATA, {}, "weights="),
        (network(), DATA, {"weights": "w.safetensors"}, "weights is for a model by its name"),
        (Unfinished(), DATA, {}, "no convolution"),
    ],
)
def test_what_cannot_be_explored_is_refused(
    model: Any, data: Any, more: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(CompressionError, match=reason):
        cx.explore(model, data, runs=tmp_path / "runs", **more)
    assert list(tmp_path.iterdir()) == []


def marks(panel: Explorer) -> dict[str, tuple[float, float]]:
    """Run → its place on the front as the front end has it; the dense model's under an empty name."""
    front = json.loads(json.dumps(panel.live))["front"]
    return {mark["id"]: (mark["x"], mark["y"]) for mark in front["marks"]}


def test_objects_of_a_notebook_run_in_a_process_of_their_own_while_the_panel_looks(tmp_path: Path) -> None:
    """A class that no other process can import; nobody calls ``refresh``."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)  # type: ignore[no-any-return]

    model = Own().eval()

    async def press_and_wait() -> Explorer:
        panel = cx.explore(model, DATA, method=PREFERRED, bits=5, runs=tmp_path / "runs")
        assert list(tmp_path.iterdir()) == [], "looking writes nothing"
        with torch.no_grad():
            model.inner.conv1.weight.zero_()  # the panel has a copy of its own
        panel._handle_custom_msg({"kind": "press", "action": "start"}, [])
        assert panel.live["busy"] == "start"
        async with asyncio.timeout(PATIENCE):
            while not (panel.live["runs"] and panel.live["runs"][0]["state"] == "done") and not panel.live["problem"]:
                await asyncio.sleep(0.1)
            assert panel._watching is not None
            await panel._watching
        return panel

    panel = asyncio.run(press_and_wait())
    assert panel.live["problem"] == "" and panel.run is not None
    result = results.result(panel.run)
    assert panel.run.budget().asks["bits"] == 5
    assert panel.run.spec()["subject"]["digest"] == digest(Own().eval()), "the weights as they were when it was opened"
    fresh = evaluate(network(), DATA, "test").score
    assert result["baseline"]["score"] == pytest.approx(fresh)
    places = marks(panel)
    assert places[panel.run.id] == (result["final"]["bytes"], pytest.approx(100 * result["final"]["score"]))
    assert places[""] == (result["baseline"]["bytes"], pytest.approx(100 * fresh))
    assert panel.answer["time"], "the next run takes about as long as this one"


@pytest.mark.usefixtures("in_this_process")
def test_runs_from_code_and_in_another_panel(panel: Explorer, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="no run"):
        panel.cancel()
    send(panel, kind="method", name=PREFERRED)
    first = panel.start()
    move(panel, "bits", 3)
    second = panel.start()
    assert [run.id for run in panel.runs] == [first.id, second.id]
    result = panel.wait()
    assert result == results.result(second)
    assert {run["id"] for run in panel.live["runs"]} == {first.id, second.id} < set(marks(panel))
    places = [marks(panel)[run.id] for run in (first, second)]
    unbeaten = [a for a in places if not any(b != a and b[0] <= a[0] and b[1] >= a[1] for b in places)]
    assert [tuple(place) for place in panel.live["front"]["front"]] == sorted(unbeaten)
    assert second.id in repr(panel) and "\n" not in repr(panel)
    assert panel.cancel() == "done"
    other = cx.explore(MODEL, DIGITS, runs=tmp_path / "runs")
    other.add(first.id)
    assert send(other, kind="use", run=first.id)["values"]["bits"] == first.budget().asks["bits"]
    assert other.budget.method == PREFERRED
    with pytest.raises(CompressionError, match="no run"):
        other.add("nonsense")


def test_without_the_packages_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("compression.widgets.explore")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(CompressionError, match=r"anywidget.*pip install -r requirements-notebook\.txt"):
        _ = cx.explore


def test_the_panel_is_one_module_that_names_no_other() -> None:
    script = Explorer._esm
    assert "export default { render }" in script and "class Front" in script
    assert not [line for line in script.splitlines() if line.startswith("import ")]
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script
