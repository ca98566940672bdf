"""A checkpoint is believed only when it is whole and of this run; else the one before it, or a line that says why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compression import tasks
from compression.budget import Budget
from compression.errors import CompressionError, Superseded
from compression.export import source
from compression.runs import checkpoint
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.prepare import TrainedModel, subject_digest
from compression.runs.reporter import RunReporter
from compression.runs.results import result
from compression.training.recipe import Recipe
from compression.training.resume import captured, check_taken_over, go_on
from compression.zoo.weights import digest as weights_digest
from tests.stripes import striped

LAST = 40
SIZE = 16_000  # of the weights, so that a checkpoint has several blocks of 4 KB
BEFORE, AFTER = ("checkpoint.previous.pt", "checkpoint.pt")


class Killed(BaseException):
    """Stands for the end of the process."""


def train(events: RunReporter, stop: int | None = None, subject: str = "these weights") -> list[float]:
    """Forty steps of random descent in two stages, with a checkpoint every ten steps; killed before step ``stop``."""
    torch.manual_seed(1)
    model = torch.nn.Linear(SIZE // 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    parts = {"model": model, "optimizer": optimizer}
    events.bind(subject)
    events.plan(LAST)
    for stage, first, last in (("one", 0, 15), ("two", 15, LAST)):
        start = go_on(events, stage, parts, first, last)
        if start is None:
            continue
        for step in range(start, last):
            if step == stop:
                raise Killed
            optimizer.zero_grad()
            (model(torch.randn(4, SIZE // 8)) - random.random()).square().mean().backward()
            optimizer.step()
            done = step + 1
            events.step(done, 0.0)
            state = lambda stage=stage, done=done: captured(stage, done, Recipe(), parts)  # noqa: E731
            events.checkpoint(done, state, due=done % 10 == 0)
    return [float(parameter.detach().double().sum()) for parameter in model.parameters()]


def outcome(folder: RunFolder, **options: Any) -> tuple[str, Any]:
    """The state in which an attempt ends, with the weights or the error."""
    random.seed(5)

    def work(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
        weights = train(events, **options)
        check_taken_over(events)
        return {"values": weights, "baseline": None, "final": None}

    state = carry_out(folder, work)
    if state == "done":
        return state, json.loads(folder.result_path.read_text())["values"]
    return state, folder.events()[-1].get("error")


def created(root: Path, name: str = "one", **budget: Any) -> RunFolder:
    return RunFolder.create(root, {"id": name, "created": 1.0, "budget": Budget(**budget).to_dict()})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    state, weights = outcome(created(tmp_path_factory.mktemp("whole")))
    assert state == "done"
    return list(weights)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Killed in step 36, with checkpoints of steps 30 and 20."""
    folder = created(tmp_path_factory.mktemp("killed"))
    with pytest.raises(Killed):
        outcome(folder, stop=35)
    assert [checkpoint.read(folder.path / name)["step"] for name in (BEFORE, AFTER)] == [20, 30]  # type: ignore[index]
    return folder


@pytest.fixture
def folder(interrupted: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(interrupted.path, tmp_path / "one")
    return RunFolder(tmp_path / "one")


def resumed_after(folder: RunFolder) -> int:
    """The step after which the last attempt began to train."""
    events = folder.events()
    last = max(event["attempt"] for event in events)
    return min(event["step"] for event in events if (event["kind"], event["attempt"]) == ("step", last)) - 1


def messages(folder: RunFolder) -> list[str]:
    return [event["message"] for event in folder.events() if event["kind"] == "log"]


def zero(path: Path, place: int) -> None:
    """4 KB of zeros, as a disk leaves them."""
    data = bytearray(path.read_bytes())
    place = min(place, len(data) - 1)
    length = len(data[place : place + 4096])
    assert any(data[place : place + length])
    data[place : place + length] = bytes(length)
    path.write_bytes(data)


def places(path: Path) -> list[int]:
    size = path.stat().st_size
    return [0, 4096, size // 3 // 4096 * 4096, size // 2, size - 5000, size - 100]


# --- damaged ----------------------------------------------------------------------------------------------------------


def test_whole_checkpoints_give_the_undisturbed_end(folder: RunFolder, undisturbed: list[float]) -> None:
    assert outcome(folder) == ("done", undisturbed)
    assert resumed_after(folder) == 30
    assert not list(folder.path.glob("checkpoint*"))


@pytest.mark.parametrize("place", range(6))
def test_zeros_in_the_last_checkpoint_send_the_run_back_to_the_one_before(
    place: int, folder: RunFolder, undisturbed: list[float]
) -> None:
    zero(folder.checkpoint_path, places(folder.checkpoint_path)[place])
    assert outcome(folder) == ("done", undisturbed)
    assert any("checkpoint.previous.pt" in message for message in messages(folder))
    assert resumed_after(folder) == 20


@pytest.mark.parametrize("place", range(6))
def test_zeros_in_both_end_the_run_by_name_and_deleting_helps(
    place: int, folder: RunFolder, undisturbed: list[float]
) -> None:
    for name in (BEFORE, AFTER):
        zero(folder.path / name, places(folder.path / name)[place])
    for _ in range(2):
        state, error = outcome(folder)
        assert state == "failed"
        assert error == f"checkpoint {folder.checkpoint_path} is damaged; delete it, and the run starts again"
        folder.put_back()
    folder.checkpoint_path.unlink()
    assert outcome(folder) == ("done", undisturbed)
    assert resumed_after(folder) == 0


@pytest.mark.parametrize("length", [0, 1, 1000, -100, -1])
def test_a_cut_off_checkpoint(length: int, folder: RunFolder, undisturbed: list[float]) -> None:
    folder.checkpoint_path.write_bytes(folder.checkpoint_path.read_bytes()[:length])
    assert outcome(folder) == ("done", undisturbed)
    assert resumed_after(folder) == 20


def test_every_single_bit_counts(folder: RunFolder) -> None:
    whole = folder.checkpoint_path.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        folder.checkpoint_path.write_bytes(data)
        with pytest.raises(CompressionError, match="damaged"):
            checkpoint.read(folder.checkpoint_path)


def test_a_checkpoint_that_another_program_saved_again_is_not_believed(folder: RunFolder) -> None:
    (folder.path / BEFORE).unlink()
    state = torch.load(folder.checkpoint_path, weights_only=True)
    state["parts"]["model"]["weight"].zero_()
    torch.save(state, folder.checkpoint_path)
    state, error = outcome(folder)
    assert state == "failed" and "is damaged; delete it" in error


# --- of something else ------------------------------------------------------------------------------------------------


def changed(folder: RunFolder, change: Callable[[dict[str, Any]], Any], version: int = checkpoint.VERSION) -> None:
    """Replace the checkpoint by one that says something else, correctly written, and with none before it."""
    state = checkpoint.read(folder.checkpoint_path)
    assert state is not None
    change(state)
    if version == checkpoint.VERSION:
        checkpoint.write(folder.checkpoint_path, state)
    else:
        torch.save({name: state[name] for name in state if name not in ("run", "spec", "subject", "attempt")}
                   | {"version": version}, folder.checkpoint_path)  # fmt: skip
    (folder.path / BEFORE).unlink(missing_ok=True)


def other_shape(state: dict[str, Any]) -> None:
    state["parts"]["model"]["weight"] = torch.zeros(3)


BOUND: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another run": (lambda state: state.update(run="two"), "is of another run"),
    "no run": (lambda state: state.pop("run"), "is of another run"),
    "another spec": (lambda state: state.update(spec="0" * 64), "is of another spec.json"),
    "other weights": (lambda state: state.update(subject="those"), "the weights, the data or the model's code changed"),
}
FIELDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a negative step": (lambda state: state.update(step=-1), "is of step -1"),
    "a step beyond the end": (lambda state: state.update(step=LAST + 1), "is of step 41, but the run has 40"),
    "a huge step": (lambda state: state.update(step=10**400), "is of step an integer of"),
    "a step of another stage": (lambda state: state.update(step=14), "of step 14, two takes steps 15 to 40"),
    "a fraction of a step": (lambda state: state.update(step=30.5), "has no usable 'step'"),
    "true": (lambda state: state.update(step=True), "has no usable 'step'"),
    "another stage": (lambda state: state.update(stage="three"), "is of stage 'three', none of this run"),
    "no stage": (lambda state: state.pop("stage"), "has no usable 'stage'"),
    "a list of parts": (lambda state: state.update(parts=[]), "has no usable 'parts'"),
    "a part less": (lambda state: state["parts"].pop("optimizer"), "'optimizer' does not fit this run (KeyError"),
    "another shape": (other_shape, "'model' does not fit this run (RuntimeError: size mismatch for weight"),
    "a list for a part": (lambda state: state["parts"].update(optimizer=[1]), "'optimizer' does not fit this run"),
    "no random numbers": (lambda state: state["random"].pop("numpy"), "'random' does not fit this run"),
    "torn random numbers": (lambda state: state["random"].update(torch=torch.zeros(3)), "'random' does not fit"),
}


@pytest.mark.parametrize(
    ("name", "version"), [*((name, 2) for name in {**BOUND, **FIELDS}), *((name, 1) for name in FIELDS)]
)
def test_what_does_not_belong_to_the_run_is_refused_by_name(name: str, version: int, folder: RunFolder) -> None:
    change, words = {**BOUND, **FIELDS}[name]
    changed(folder, change, version)
    state, error = outcome(folder)
    assert state == "failed"
    assert words in error
    assert "\n" not in error
    assert "delete" in error
    assert not folder.result_path.exists()


def test_the_checkpoint_of_another_run_is_not_taken_though_it_fits(
    folder: RunFolder, tmp_path: Path, undisturbed: list[float]
) -> None:
    other = created(tmp_path, "two")
    with pytest.raises(Killed):
        outcome(other, stop=37)
    shutil.copyfile(other.checkpoint_path, folder.checkpoint_path)
    assert outcome(folder) == ("done", undisturbed)  # from the one before, which is its own
    assert resumed_after(folder) == 20
    assert any("checkpoint.pt" in message for message in messages(folder))


def test_an_edited_spec_is_noticed(folder: RunFolder) -> None:
    spec = json.loads(folder.spec_path.read_text())
    folder.spec_path.write_text(json.dumps(spec))  # another layout is no change
    assert outcome(folder)[0] == "done"


def test_a_changed_budget_is_noticed(folder: RunFolder) -> None:
    spec = json.loads(folder.spec_path.read_text())
    spec["budget"]["seed"] = 99
    folder.spec_path.write_text(json.dumps(spec))
    state, error = outcome(folder)
    assert (state, error) == (
        "failed", f"{folder.spec_path} was edited since the run began: put the old one back, or start a new run"
    )  # fmt: skip
    spec["budget"]["seed"] = 0
    folder.spec_path.write_text(json.dumps(spec))
    folder.put_back()
    assert outcome(folder)[0] == "done"


def test_an_edited_result_is_not_reported(folder: RunFolder) -> None:
    assert outcome(folder)[0] == "done"
    stored = result(folder)
    assert (stored["status"], stored["attempts"]) == ("done", 2)
    folder.result_path.write_text(folder.result_path.read_text().replace('"attempts": 2', '"attempts": 1'))
    with pytest.raises(CompressionError, match="is not the one that the run wrote; put the file back, or remove it"):
        result(folder)
    folder.result_path.unlink()
    assert (result(folder)["status"], result(folder)["attempts"]) == ("done", 2)


# --- as version 0.1.0 wrote them --------------------------------------------------------------------------------------


def test_a_checkpoint_of_version_1_goes_on(folder: RunFolder, undisturbed: list[float]) -> None:
    changed(folder, lambda state: None, version=1)
    assert outcome(folder) == ("done", undisturbed)
    assert resumed_after(folder) == 30


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
def test_zeros_in_a_checkpoint_of_version_1_are_noticed(part: float, folder: RunFolder) -> None:
    changed(folder, lambda state: None, version=1)
    zero(folder.checkpoint_path, int(folder.checkpoint_path.stat().st_size * part))
    state, error = outcome(folder)
    assert state == "failed"
    assert error == f"checkpoint {folder.checkpoint_path} is damaged; delete it, and the run starts again"


def test_code_in_a_checkpoint_is_never_run(folder: RunFolder, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    (folder.path / BEFORE).unlink()
    for data in (pickle.dumps(Code()), pickle.dumps({"version": 1, "stage": Code()})):
        folder.checkpoint_path.write_bytes(data)
        assert outcome(folder)[0] == "failed"
        folder.put_back()
    torch.save({"version": 1, "stage": Code()}, folder.checkpoint_path)
    assert outcome(folder)[0] == "failed"
    assert not (tmp_path / "executed").exists()


# --- writing ----------------------------------------------------------------------------------------------------------


def test_wherever_writing_ends_a_good_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before each single change of the folder, as often as there are changes."""
    path, calls = tmp_path / "checkpoint.pt", [0]
    real = {name: getattr(os, name) for name in ("fsync", "link", "replace", "unlink")}

    def counted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] -= 1
            if calls[0] == 0:
                monkeypatch.undo()
                raise Killed
            return real[name](*arguments, **options)

        return call

    def bound(step: int) -> dict[str, Any]:
        return {"stage": "one", "step": step, "random": {}, "parts": {"x": torch.full((2000,), step)}}

    checkpoint.write(path, bound(1))
    checkpoint.write(path, bound(2))
    killed = 0
    for calls_left in range(1, 50):
        calls[0] = calls_left
        for name in real:
            monkeypatch.setattr(os, name, counted(name))
        try:
            checkpoint.write(path, bound(3 + calls_left))
        except Killed:
            killed += 1
        else:
            break
        state = checkpoint.read(path)
        assert state is not None
        assert state["step"] in (2, 2 + calls_left, 3 + calls_left)
        assert bool((state["parts"]["x"] == state["step"]).all())
        checkpoint.write(path, bound(2))
    monkeypatch.undo()
    assert killed >= 4
    checkpoint.clean(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [BEFORE, AFTER]


def test_a_file_system_without_links_keeps_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refused)
    for step in (1, 2, 3):
        assert checkpoint.write(tmp_path / AFTER, {"step": step})
    assert [checkpoint.read(tmp_path / name)["step"] for name in (BEFORE, AFTER)] == [2, 3]  # type: ignore[index]


def test_who_has_lost_the_run_replaces_no_checkpoint(tmp_path: Path) -> None:
    def lost() -> None:
        raise Superseded("taken over")

    checkpoint.write(tmp_path / AFTER, {"step": 1})
    before = (tmp_path / AFTER).read_bytes()
    with pytest.raises(Superseded):
        checkpoint.write(tmp_path / AFTER, {"step": 2}, confirm=lost)
    assert [path.name for path in tmp_path.iterdir()] == [AFTER]
    assert (tmp_path / AFTER).read_bytes() == before


# --- what a run begins with and leaves behind -------------------------------------------------------------------------


def test_the_digest_of_what_a_run_begins_with_changes_with_each_part_of_it(tmp_path: Path) -> None:
    code = tmp_path / "own.py"
    code.write_text("1")
    name = f"{code}:net"
    model, data = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)), striped("shift")
    subject = TrainedModel(model, tasks.task_of(data), (1, 12, 12), 4, tmp_path / "weights")
    digests = [subject_digest(subject, name), subject_digest(subject, "resnet8")]
    assert subject_digest(subject, name) == digests[0]
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    digests.append(subject_digest(subject, name))
    model[1].running_mean[0] = 1.0  # type: ignore[index]
    digests.append(subject_digest(subject, name))
    for split in ("train", "validation", "test"):
        labels = data.split(split).labels.clone()
        labels[0] = (labels[0] + 1) % 4
        other = dataclasses.replace(data, **{split: dataclasses.replace(data.split(split), labels=labels)})
        digests.append(subject_digest(dataclasses.replace(subject, task=tasks.task_of(other)), name))
    shifted = tasks.task_of(dataclasses.replace(data, mean=(0.1,)))
    digests.append(subject_digest(dataclasses.replace(subject, task=shifted), name))
    code.write_text("2")
    digests.append(subject_digest(subject, name))
    assert len(set(digests)) == len(digests)


def test_the_digest_is_that_of_version_0_1_so_that_its_runs_go_on(tmp_path: Path) -> None:
    """The state's own digest, the preprocessing, then name, type, shape and bytes of every tensor of the splits."""
    model, data = torch.nn.Linear(2, 2), striped("shift")
    subject = TrainedModel(model, tasks.task_of(data), (1, 12, 12), 4, "w")
    total = hashlib.sha256(weights_digest(model).encode())
    total.update(repr((data.mean, data.std, data.augment, data.classes, data.preprocess)).encode())
    for name in ("train", "validation", "test"):
        for tensor in (data.split(name).images, data.split(name).labels):
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert subject_digest(subject, "resnet8") == total.hexdigest()


@pytest.mark.parametrize("change", ["weights.packed", "spec.json"])
def test_nothing_is_exported_of_files_that_changed_after_the_run(change: str, tmp_path: Path) -> None:
    folder = created(tmp_path)
    about = {"budget": Budget().to_dict(), "baseline": None, "final": None}

    def work(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
        folder.bundle.mkdir()
        (folder.bundle / "weights.packed").write_bytes(b"of this run")
        return {**about, "packed_sha256": hashlib.sha256(b"of this run").hexdigest()}

    assert carry_out(folder, work) == "done"
    with pytest.raises(CompressionError) as refused:  # these bytes are no packed model, but they are the run's own
        source.read(folder)
    assert "put the old one back" not in str(refused.value)
    if change == "spec.json":
        spec = json.loads(folder.spec_path.read_text())
        spec["budget"]["sparsity"] = 0.25
        folder.spec_path.write_text(json.dumps(spec))
        words = "spec.json of run one was edited after the run: put the old one back"
    else:
        (folder.bundle / "weights.packed").write_bytes(b"of another run")
        words = "is not the file that run one wrote: put the old one back"
    with pytest.raises(CompressionError, match=words):
        source.read(folder)
