"""Runs in TensorBoard and MLflow, read back through the real packages and compared with the run's own events."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from compression import runs as library
from compression import trackers
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.runs.folder import RunFolder

GALLERY = Path(__file__).resolve().parents[1] / "assets" / "gallery" / "resnet8-mnist5k" / "geta"


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run of the gallery as one of the user's own."""
    shutil.copytree(GALLERY, tmp_path / "runs" / "geta-1")
    return RunFolder.open(tmp_path / "runs", "geta-1")


def accumulated(place: str) -> EventAccumulator:
    accumulator = EventAccumulator(place, size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def curve(events: list[dict[str, Any]], kind: str, field: str, split: str | None = None) -> list[tuple[int, float]]:
    """(step, value), straight from the events."""
    chosen = [event for event in events if event["kind"] == kind and event.get("split") == split]
    return [(event["step"], event[field]) for event in chosen]


def test_tensorboard_has_the_curves_of_the_run(finished: RunFolder) -> None:
    place = trackers.track(finished, "tensorboard")
    assert Path(place) == finished.path / "tensorboard"
    read, events = accumulated(place), finished.events()
    for tag, truth in {
        "train/loss": curve(events, "step", "loss"),
        "train/lr": curve(events, "step", "lr"),
        "validation/accuracy": curve(events, "point", "accuracy", "validation"),
        "test/accuracy": curve(events, "point", "accuracy", "test"),
    }.items():
        assert len(truth) > 1, tag
        assert [(each.step, pytest.approx(each.value)) for each in read.Scalars(tag)] == truth
    sizes = [event["bytes"] for event in events if event["kind"] == "point"]
    assert [each.value for each in read.Scalars("model/bytes")] == pytest.approx(sizes)
    assert read.Scalars("train/loss")[0].wall_time == pytest.approx(events[0]["t"], abs=3600)
    assert read.Tensors("budget/text_summary")
    for part in ("experiment", "session_start_info", "session_end_info"):
        assert read.SummaryMetadata(f"_hparams_/{part}").plugin_data.plugin_name == "hparams"
    again = trackers.track(finished, "tensorboard")
    assert len(accumulated(again).Scalars("train/loss")) == len(read.Scalars("train/loss")), "written anew, not twice"


def test_steps_that_a_resumed_run_takes_again_count_once(finished: RunFolder) -> None:
    lines = [json.loads(line) for line in finished.events_path.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    cut = len(steps) // 2
    again = [{**step, "attempt": 2, "loss": 100 + number} for number, step in enumerate(steps[cut:])]
    head = lines[: lines.index(steps[-1]) + 1]
    running = {**head[0], "attempt": 2, "kind": "state", "state": "running", "step": steps[cut]["step"]}
    end = {**running, "state": "cancelled", "step": steps[-1]["step"]}
    text = "".join(json.dumps(event) + "\n" for event in (*head, running, *again, end))
    finished.events_path.write_text(text, encoding="utf-8")
    read = accumulated(trackers.track(finished, "tensorboard")).Scalars("train/loss")
    values = {each.step: each.value for each in read}
    assert len(values) == len(read) == len(steps)
    assert [values[step["step"]] for step in again] == [pytest.approx(step["loss"]) for step in again]


def test_mlflow_has_the_curves_and_the_result_once(finished: RunFolder, tmp_path: Path) -> None:
    for _ in range(2):
        place = trackers.track(finished, "mlflow", str(tmp_path / "ml"))
    client = MlflowClient(place)
    (run,) = client.search_runs([client.get_experiment_by_name("compression").experiment_id])
    events = finished.events()
    for name, truth in {
        "train/loss": curve(events, "step", "loss"),
        "test/accuracy": curve(events, "point", "accuracy", "test"),
    }.items():
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda each: each.step)
        assert [(each.step, pytest.approx(each.value)) for each in history] == sorted(truth), "and no value twice"
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "geta"
    assert {each.path for each in client.list_artifacts(run.info.run_id)} == {"spec.json", "result.json"}


def test_a_run_that_goes_on_is_followed_to_its_end(tmp_path: Path) -> None:
    budget = Budget(model="resnet8", data="mnist5k", method="magnitude", asks={"sparsity": 0.5, "bits": 4}, epochs=0.2)
    run = library.start(budget, tmp_path / "runs")
    assert main(["track", run, "--runs", str(tmp_path / "runs"), "--to", "mlflow", "--out", str(tmp_path / "ml")]) == 0
    folder = RunFolder.open(tmp_path / "runs", run)
    assert folder.state == "done"
    client = MlflowClient((tmp_path / "ml").as_uri())
    (tracked,) = client.search_runs([client.get_experiment_by_name("compression").experiment_id])
    final = json.loads(folder.result_path.read_text(encoding="utf-8"))["final"]
    assert tracked.data.metrics["test/accuracy"] == pytest.approx(final["accuracy"])
    assert tracked.data.metrics["model/bytes"] == final["bytes"]


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_package_that_is_not_there_is_named(finished: RunFolder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [each for each in sys.modules if each.startswith(("torch.utils.tensorboard", f"{name}."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"compression.trackers.{name}", raising=False)
    with pytest.raises(CompressionError, match=r"requirements-track\.txt"):
        trackers.track(finished, name)
    assert not (finished.path / "tensorboard").exists()


def test_bad_places_and_names_are_one_line(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--runs", str(tmp_path / "runs")]
    (tmp_path / "file").write_text("")
    for words in (
        ["track", *root],
        ["track", "none", *root],
        ["track", "geta-1", *root, "--to", "wandb"],
        ["track", "geta-1", *root, "--out", str(tmp_path / "file")],
        ["track", "geta-1", *root, "--to", "mlflow", "--out", str(tmp_path / "file")],
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert error.startswith("error: "), error
        assert error.count("\n") == 1, error
