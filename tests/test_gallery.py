"""The gallery: what is kept of a run reads like the run itself, names its origin, and is small."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compression import methods
from compression.budget import Budget
from compression.runs import results
from compression.runs.folder import RunFolder

GALLERY = Path(__file__).resolve().parents[1] / "assets" / "gallery"
KEPT = sorted(path.parent for path in GALLERY.glob("*/*/record.json"))
LARGEST = 400_000


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery_make", GALLERY / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def events(steps: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"kind": "state", "step": 0, "state": "running", "pid": 7, "host": "here"}]
    for step in range(1, steps + 1):
        events.append({"kind": "step", "step": step, "loss": 1 / step})
        if step % 100 == 0:
            events.append({"kind": "point", "step": step, "accuracy": 0.5})
    return events


@pytest.mark.parametrize("steps", [0, 5, 121, 1000])
def test_thinning_keeps_all_but_steps_and_both_ends(steps: int) -> None:
    module, given = maker(), events(steps)
    thinned = list(module.thinned(given))
    assert [e for e in thinned if e["kind"] == "point"] == [e for e in given if e["kind"] == "point"]
    drawn = [e["step"] for e in thinned if e["kind"] == "step"]
    assert len(drawn) == min(steps, module.KEPT["step"] + 1)
    if steps:
        assert (drawn[0], drawn[-1]) == (1, steps)
    assert "host" not in json.dumps(thinned)
    assert "pid" not in json.dumps(thinned)


def test_thinning_keeps_the_steps_around_a_commit() -> None:
    module, given = maker(), events(3000)
    decided = [
        {"kind": "group", "step": step, "joint": {"conv1": {"uniform": 1 / (1500 - step)}}} for step in range(900, 1500)
    ]
    thinned = list(module.thinned(given + decided))
    steps = {event["step"] for event in thinned if event["kind"] == "step"}
    assert set(range(1479, 1510)) <= steps
    assert len(steps) < 31 + module.KEPT["step"] + 1
    groups = [event["step"] for event in thinned if event["kind"] == "group"]
    assert (groups[-1], len(groups)) == (1499, module.KEPT["group"] + 1)
    committed = [{**decided[-1], "step": step} for step in (1000, 1001, 1002)]
    groups = [
        event["step"] for event in module.thinned(decided[:99] + committed + decided[:99]) if event["kind"] == "group"
    ]
    assert {1000, 1001, 1002} <= set(groups)


def test_a_path_is_replaced_wherever_it_stands() -> None:
    given = {"weights": "/a/w.pt", "facts": [{"weights": "/a/w.pt", "bits": 4}], "other": "/a/w.pts"}
    stored = {"weights": "w.pt", "facts": [{"weights": "w.pt", "bits": 4}], "other": "/a/w.pts"}
    assert maker().named(given, "/a/w.pt", "w.pt") == stored


@pytest.mark.parametrize("budget", sorted(GALLERY.glob("*/budgets/*.json")), ids=lambda path: path.stem)
def test_every_budget_can_be_read(budget: Path) -> None:
    read = Budget.load(budget)
    assert read.weights is None
    methods.get(read.method).check_budget(read)


@pytest.mark.skipif(not KEPT, reason="no run is kept yet")
@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_a_kept_run_is_complete_and_says_where_it_comes_from(folder: Path) -> None:
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    run = RunFolder(folder)
    result = results.result(run)  # refused where its events do not vouch for it
    assert record["data"] == result["data"]
    metric = result["final"].get("metric", "accuracy")
    assert record["final"][metric] == result["final"][metric]
    assert record["baseline"][metric] == result["baseline"][metric]
    assert record["seed"] == run.budget().seed == result["budget"]["seed"]
    assert len(record["commit"]) == 40
    points = run.points()
    trains = methods.get(run.budget().method).trains(run.budget())
    assert len(points) >= (20 if trains else 3), "what is not trained has less to tell, least without norms"
    assert points[-1].to_dict().items() >= result["final"].items()
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "weights.packed")
    assert sum(path.stat().st_size for path in files) < LARGEST, "but for the model itself"
    for path in folder.glob("*.json*"):
        assert not {word for word in ('"/', "home/", "tmp/") if word in path.read_text(encoding="utf-8")}, path.name
