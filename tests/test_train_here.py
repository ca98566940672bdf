"""Training a dense model as a job from the page, and how long runs take by those before them."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import torch
from opened import Open, errors, page_text
from PIL import Image
from safetensors.torch import load_file
from test_operator import CODE
from written import finished

from compression import zoo
from compression.budget import Budget
from compression.cli import main
from compression.jobs import dense, studies, timing
from compression.runs import pace
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.zoo import weights


@pytest.fixture(autouse=True)
def _own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path / "models"))


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A small network of the operator's."""
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path / 'mine.py'}:net"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of pictures in two classes, dark and bright."""
    root = tmp_path / "data" / "pets"
    for name, first in (("cat", 10), ("dog", 200)):
        (root / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (12, 12), (first + i, first, first)).save(root / name / f"{i}.png")
    return root


@pytest.mark.usefixtures("in_this_process")
def test_the_page_trains_what_the_command_trains(open_page: Open, tmp_path: Path, model: str, pets: Path) -> None:
    named = ("--model", model, "--data-root", str(pets.parent))
    app = open_page("model", *named, model=model, data=str(pets))
    before = app.button(key="train_here")
    assert "epochs" in before.label, "nothing was trained here before, so that no time is known"
    before.click().run()
    assert errors(app) == []
    place = weights.default_path(model, str(pets))
    assert place.is_file()
    app = open_page("model", *named, model=model, data=str(pets))
    assert "train_here" not in [button.key for button in app.button]
    assert "Test accuracy" in [metric.label for metric in app.metric]
    line = ["train", "--model", model, "--data", str(pets), "--classes", "2", "--seed", "0"]
    out = tmp_path / "typed.safetensors"
    assert main([*line, "--epochs", str(zoo.spec(model).epochs), "--out", str(out)]) == 0
    here, typed = load_file(place), load_file(out)
    assert all(torch.equal(here[name], tensor) for name, tensor in typed.items())
    about, other = weights.read_provenance(place), weights.read_provenance(out)
    assert {name for name in about if about[name] != other[name]} <= {"created", "seconds", "command"}
    place.unlink()
    app = open_page("budget", *named, model=model, data=str(pets))
    assert "about" in app.button(key="train_here").label, "the last training says how long it takes"


@pytest.mark.usefixtures("in_this_process")
def test_a_job_that_is_stopped_writes_nothing_and_says_so(
    open_page: Open,
    tmp_path: Path,
    model: str,
    pets: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = Budget(model=model, data=str(pets), classes=2, epochs=float(zoo.spec(model).epochs))
    seen = []

    def stop(given: Budget, *_: Any, on_step: Any, **__: Any) -> None:
        (folder,) = (tmp_path / "runs" / studies.FOLDER).glob("train-*")
        RunFolder(folder).cancel_path.touch()
        on_step(1, 10, 0.5)
        seen.append(given)

    monkeypatch.setattr(dense, "train", stop)
    monkeypatch.setattr("compression.runs.eventwriter.CHECK_SECONDS", 0)
    dense.begin(budget, tmp_path / "runs")
    job = dense.find(budget, tmp_path / "runs")
    assert job is not None
    assert (job.state, seen) == ("cancelled", [])
    app = open_page("model", "--model", model, "--data-root", str(pets.parent), model=model, data=str(pets))
    assert "(cancelled)" in page_text(app)
    assert app.button(key="train_here")


def events(steps: list[tuple[int, float]], total: int, end: float, attempt: int = 1) -> list[dict[str, Any]]:
    """Events of a run: its steps at these seconds, of ``total``, and the end."""
    common = {"attempt": attempt, "epoch": 0.0, "step": 0}
    began = {**common, "t": 0.0, "kind": "state", "state": "running", "host": platform.node()}
    plan = {**common, "t": 1.0, "kind": "plan", "total_steps": total}
    timed = [{**common, "t": t, "kind": "step", "step": step} for step, t in steps]
    return [began, plan, *timed, {**common, "t": end, "kind": "state", "state": "done"}]


def test_seconds_are_those_of_the_steps_and_the_others() -> None:
    timed = pace.of_events(events([(1, 10.1), (51, 15.1), (200, 30.0)], 200, 42.0), epochs=4)
    assert timed is not None
    assert timed.epoch == pytest.approx(200 * 0.1 / 4)
    assert timed.rest == pytest.approx(42 - 20)
    assert pace.of_events(events([(1, 1.0), (9, 2.0)], 9, 5.0, attempt=2), 4) is None, "resumed"
    elsewhere = events([(1, 1.0), (9, 2.0)], 9, 5.0)
    elsewhere[0]["host"] = "another"
    assert pace.of_events(elsewhere, 4) is None
    untrained = pace.of_events(events([], 3, 5.0), 4)
    assert untrained is not None
    assert (untrained.epoch, untrained.rest) == (0.0, 5.0)
    assert pace.remaining(events([(1, 1.0), (11, 3.0)], 111, 3.0)) == pytest.approx(20.0)
    assert pace.remaining(events([(1, 1.0)], 111, 3.0)) is None


def test_the_nearest_runs_say_how_long_one_takes(tmp_path: Path) -> None:
    ids = {
        name: finished(tmp_path, budget=Budget(**fields))
        for name, fields in {
            "same": {"method": "opq", "epochs": 2}, "other": {"method": "magnitude", "epochs": 3},
            "rounded": {"method": "ptq"}, "elsewhere": {"method": "opq", "model": "vgg7"},
        }.items()
    }  # fmt: skip
    infos = Store(tmp_path).list()
    paces = {
        ids["same"]: pace.Pace(10.0, 5.0, 100.0), ids["other"]: pace.Pace(20.0, 6.0, 100.0),
        ids["rounded"]: pace.Pace(0.0, 3.0, 100.0), ids["elsewhere"]: pace.Pace(40.0, 8.0, 400.0),
    }  # fmt: skip

    def seconds(budget: Budget, without: str = "", macs: float = 100.0) -> tuple[float, str] | None:
        usable = [info for info in infos if info.id != ids.get(without)]
        estimate = pace.estimate(budget, usable, paces.get, macs)
        return None if estimate is None else (estimate.seconds, estimate.source)

    assert seconds(Budget(method="opq", epochs=6)) == (65.0, "same")
    assert seconds(Budget(method="opq", epochs=6), "same") == (126.0, "method")
    assert seconds(Budget(method="ptq")) == (3.0, "same")
    assert seconds(Budget(method="gptq")) == (3.0, "method"), "no run that trains says it"
    assert seconds(Budget(method="opq", model="resnet20", epochs=2), macs=200.0) == (47.0, "model")
    assert seconds(Budget(method="opq", data="cifar10", model="resnet20")) is None


def test_the_forecast_says_it_and_where_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")  # where these runs say that they were
    place = ["--runs", str(tmp_path / "runs")]
    command = ["forecast", "--model", "resnet8", "--data", "mnist5k", "--method", "ptq", *place]
    assert main([*command, "--json", "-"]) == 0
    assert "seconds" not in json.loads(capsys.readouterr().out)
    finished(tmp_path / "runs", budget=Budget(method="ptq"))
    assert main([*command, "--json", "-"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["seconds"] >= 0
    assert value["seconds_basis"] == pace.Estimate(1.0, 1, "same").basis
    assert main(command) == 0
    assert value["seconds_basis"] in capsys.readouterr().out


def test_the_budget_page_says_how_long_a_run_takes(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    basis = pace.Estimate(1.0, 1, "same").basis
    assert basis not in page_text(open_page("budget"))
    finished(tmp_path / "runs", budget=Budget(method="ptq"))
    st.cache_data.clear()  # the list of runs is read anew after some seconds
    app = open_page("budget")
    assert basis not in page_text(app), "rounding says nothing of training"
    app.button_group(key="method").set_value("ptq").run()
    assert basis in page_text(app)


@pytest.mark.usefixtures("in_this_process")
def test_without_earlier_runs_a_few_steps_are_timed_in_the_background(open_page: Open, tmp_path: Path) -> None:
    app = open_page("budget")
    app.button(key="time_steps").click().run()
    assert errors(app) == []
    (place,) = (tmp_path / "runs" / studies.FOLDER).glob("timing-*")
    result = timing.timed(RunFolder(place))
    assert result is not None
    assert result["batches"] == 3600 // 64, "of 4,000 digits a tenth is for validation; whole batches alone"
    assert result["examples"] == {"validation": 400, "test": 1000}
    assert min(result["load"], result["step"], result["example"]) > 0
    assert "time_steps" not in [button.key for button in app.button]
    epochs = [timing.seconds(result, epochs) for epochs in (0.0, 1.0, 3.0)]
    assert epochs[2] - epochs[0] == pytest.approx(3 * (epochs[1] - epochs[0]))
    assert epochs[1] - epochs[0] == pytest.approx(56 * result["step"] + 400 * result["example"])
    app.number_input(key="batch_size").set_value(32).run()
    assert app.button(key="time_steps"), "steps of another size take another time"
