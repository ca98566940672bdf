"""A function's weights are its weights: told apart from initial ones, stored in the spec, followed by every command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from compression import runs, zoo
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.export.source import read
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.prepare import load
from compression.runs.store import Store
from compression.runs.submit import new_spec
from compression.zoo.origin import redrawn, returned
from compression.zoo.weights import digest

CODE = """
import torch
from torch import nn
from safetensors.torch import load_file

SIZE = (1, 8, 8)

def net():
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    return nn.Sequential(*layers)

def trained():
    model = net()
    model.load_state_dict(load_file({path!r}))
    return model, SIZE

def said():
    return *trained(), {{"mean": 0.25, "std": [0.5]}}

def initial():
    return *trained(), {{"weights": "initial"}}

def fresh():
    return net(), SIZE

def half():
    model, size = trained()
    model[4] = nn.Linear(16, 2)
    return model, size

def seeded():
    torch.manual_seed(3)
    return net(), SIZE

def numbers():
    return trained()[0], {{"mean": 255}}

def many():
    return trained()[0], SIZE, SIZE
"""


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of functions, the weights they load, and a folder of dark and bright pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path / "models"))
    save_file(network(7).state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "mine.py").write_text(CODE.format(path=str(tmp_path / "w.safetensors")))
    values = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 120)):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for index in range(20):
            picture = values.integers(low, low + 120, (8, 8)).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "pics" / name / f"{index}.png")
    return tmp_path


def budget(home: Path, function: str, **changes: Any) -> Budget:
    return Budget(method="ptq", model=f"{home}/mine.py:{function}", data=str(home / "pics"), bits=4, **changes)


def carried_out(home: Path, budget: Budget, identity: dict[str, Any]) -> RunFolder:
    folder = RunFolder.create(home / "runs", new_spec(budget, Store(home / "runs"), subject=identity))
    carry_out(folder, execute)
    return folder


@pytest.mark.parametrize(
    ("function", "own"),
    [("trained", True), ("said", True), ("seeded", True), ("initial", False), ("fresh", False), ("half", False)],
)
def test_weights_that_are_the_same_at_every_call_are_trained_ones(home: Path, function: str, own: bool) -> None:
    name = f"{home}/mine.py:{function}"
    model = returned(name, (1, 8, 8), 2)
    assert (model is not None) == own
    if model is not None and function != "seeded":
        assert digest(model.model) == digest(network(7))
    if own:
        assert load(budget(home, function)).weights == f"returned by {function}"
        with pytest.raises(CompressionError, match="no trained weights"):
            load(budget(home, function, weights="initial"))
    else:
        with pytest.raises(CompressionError, match=r"no trained weights.*compression train --model"):
            load(budget(home, function))
        with pytest.raises(CompressionError, match="returns no trained weights"):
            load(budget(home, function, weights="function"))


def test_what_train_made_comes_before_the_function_unless_it_is_named(home: Path) -> None:
    path = zoo.weights.default_path(f"{home}/mine.py:trained", str(home / "pics"))
    zoo.weights.save(network(8), path, {})
    assert digest(load(budget(home, "trained")).model) == digest(network(8))
    assert digest(load(budget(home, "trained", weights="function")).model) == digest(network(7))


@pytest.mark.parametrize("command", ["graph", "allocate"])
def test_commands_that_look_only_say_whose_weights_they_saw(
    home: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, weights in (([], "returned by trained"), (["--weights", "initial"], "random")):
        assert main([command, "mine.py:trained", *options, "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["weights"] == weights


def test_a_run_says_what_it_began_with_and_can_be_exported(home: Path) -> None:
    requested = budget(home, "said", preprocess={"std": 0.4})
    identity = load(requested).identity
    assert set(identity) == {"weights", "digest", "preprocess", "metric"}
    assert identity["weights"].split()[-1] == "said"
    assert (identity["digest"], identity["preprocess"]) == (digest(network(7)), {"mean": [0.25], "std": [0.4]})
    folder = carried_out(home, requested, identity)
    stored = runs.result(folder)
    assert stored["status"] == "done", stored["error"]
    assert (stored["weights"], stored["weights_digest"]) == (identity["weights"], identity["digest"])
    assert stored["preprocess"] == stored["budget"]["preprocess"] | {"mean": [0.25], "std": [0.4]}
    source = read(folder)
    assert (source.data.mean, source.data.std) == ((0.25,), (0.4,))
    assert digest(source.dense) == identity["digest"]
    x = (source.data.test.images.double() / 255 - 0.25) / 0.4
    with torch.no_grad():
        right = (network(7).double()(x).argmax(1) == source.data.test.labels).double().mean()
    assert stored["baseline"]["accuracy"] == pytest.approx(float(right))


def test_other_weights_or_constants_than_at_the_start_are_refused(home: Path) -> None:
    requested = budget(home, "trained")
    identity = load(requested).identity
    changed = {**identity, "preprocess": {"mean": [0.5], "std": [0.5]}}
    stored = runs.result(carried_out(home, requested, changed))
    assert stored["status"] == "failed" and "preprocessed otherwise" in stored["error"]
    save_file(network(9).state_dict(), home / "w.safetensors")
    stored = runs.result(carried_out(home, requested, identity))
    assert stored["status"] == "failed" and "not those that this was started with" in stored["error"]
    assert digest(network(9))[:12] in stored["error"] and identity["digest"][:12] in stored["error"]
    assert runs.result(carried_out(home, requested, {}))["status"] == "done", "specs of older versions do not say"


def test_sweeps_and_scans_keep_it_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compression.jobs import sensitivity, studies

    requested = budget(home, "trained")
    store = Store(home / "runs", slots=0)
    runs.sweep(requested, bits=[3, 4], root=home / "runs", store=store)
    specs = [json.loads(path.read_text()) for path in (home / "runs").glob("*/spec.json")]
    assert [spec["subject"]["digest"] for spec in specs if "sweep" in spec] == [digest(network(7))] * 2
    keys = {
        sensitivity.key(each, structured=False) for each in (requested, requested.replace(preprocess={"mean": 0.1}))
    }
    save_file(network(9).state_dict(), home / "w.safetensors")
    assert len(keys | {studies.key("sensitivity", requested, **sensitivity.request(False))}) == 3


def test_bad_returns_are_refused_by_name(home: Path) -> None:
    for function, problem in (("numbers", "mean must be"), ("many", "must return an nn.Module")):
        with pytest.raises(CompressionError, match=problem):
            zoo.spec(f"{home}/mine.py:{function}")


def test_the_floor_of_an_explanation_has_learned_nothing() -> None:
    before = network(7)
    other, again = redrawn(before, 5), redrawn(before, 5)
    assert digest(before) == digest(network(7)), "the network itself stays"
    assert digest(other) == digest(again) != digest(before)
    assert all(not torch.equal(a, b) for a, b in zip(before.parameters(), other.parameters(), strict=True))


def test_an_absent_preprocessing_leaves_budget_files_as_they_were() -> None:
    assert "preprocess" not in Budget().to_dict()
    stated = Budget(preprocess={"mean": [0.5]})
    assert Budget.from_dict(stated.to_dict()) == stated
