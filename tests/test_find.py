"""The search for the smallest model that is good enough: as few runs as bisection takes, and the right answer."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression import runs
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.points import Point
from compression.runs.bisect import SPARSITIES, carry_out_find
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.reporter import RunReporter
from compression.runs.sweep import combinations, expected_size, specs, widest_first


def search(store: runs.Store, budgets: list[Budget], least: float) -> RunFolder:
    spec, planned = specs(Budget(), budgets, store)
    return store.add({**spec, "find": {"min_accuracy": least, "planned": planned}})[0]


def point(accuracy: float, split: str) -> Point:
    return Point(1, 1.0, "joint", split, accuracy, 0.1, 1e3, "packed", 1e3, 1e6, 1e7, 0.05, 0.5, 0.6, {})


def work_with(accuracies: dict[float, float], tried: list[float]) -> Any:
    def work(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
        share = folder.budget().asks["sparsity"]
        tried.append(share)
        events.point(point(accuracies[share], "validation"))
        events.point(point(0.0, "test"))  # what the test split says must not matter
        final = point(0.0, "test").to_dict()
        return {"baseline": None, "final": final, "points": [p.to_dict() for p in folder.points()]}

    return work


def carried_out(folder: RunFolder, work: Any) -> str:
    return carry_out(folder, lambda f, events: carry_out_find(f, events, work=work, stopped=lambda: False))


@pytest.fixture
def store(tmp_path: Path) -> runs.Store:
    return runs.Store(tmp_path / "runs", slots=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 12))
def test_the_smallest_good_one_is_found_in_few_runs(count: int, good: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        shares = [round((i + 1) / 20, 2) for i in range(count)]
        accuracies = {share: 0.98 if i < good else 0.9 for i, share in enumerate(shares)}
        folder = search(runs.Store(root, slots=0), [Budget(sparsity=share) for share in shares], 0.95)
        tried: list[float] = []
        assert carried_out(folder, work_with(accuracies, tried)) == "done"
        result = runs.result(folder)
        expected = None if good == 0 else shares[min(good, count) - 1]
        smallest = result["found"] and RunFolder(Path(root) / result["found"]).budget().asks["sparsity"]
        assert smallest == expected
        assert len(tried) <= count.bit_length()
        assert len(set(tried)) == len(tried) == len(result["runs"]) == len(folder.children())


def test_an_interrupted_search_does_nothing_twice(store: runs.Store) -> None:
    shares = [0.1, 0.3, 0.5, 0.7, 0.9]
    accuracies = dict(zip(shares, (0.99, 0.98, 0.97, 0.8, 0.5), strict=True))
    folder = search(store, [Budget(sparsity=share) for share in shares], 0.96)
    tried: list[float] = []

    def breaks(child: RunFolder, events: RunReporter) -> dict[str, Any]:
        if tried:
            raise RuntimeError("power cut")
        return dict(work_with(accuracies, tried)(child, events))

    assert carried_out(folder, breaks) == "failed"
    assert "power cut" in runs.result(folder)["error"]
    assert runs.resume(folder.id, store.root, store=store) == "queued"
    assert carried_out(folder, work_with(accuracies, tried)) == "done"
    assert sorted(tried) == sorted(set(tried))
    assert RunFolder(store.root / runs.result(folder)["found"]).budget().asks["sparsity"] == 0.5
    states = {info.id: info.state for info in store.list()}
    assert states[folder.id] == "done"
    assert list(states.values()).count("done") == len(tried) + 1


def test_nothing_good_enough_is_an_answer(store: runs.Store) -> None:
    folder = search(store, [Budget(sparsity=0.1), Budget(sparsity=0.5)], 0.999)
    assert carried_out(folder, work_with({0.1: 0.9, 0.5: 0.8}, [])) == "done"
    assert runs.result(folder)["found"] is None


def test_sizes_put_budgets_in_order_and_extremes_first() -> None:
    geta = combinations(Budget(), [0.1, 0.5, 0.9], [(4, 4), (8, 8)])
    assert expected_size(Budget(sparsity=0.5, weight_bits=(8, 8))) == pytest.approx(0.25 * 8 / 32)
    assert expected_size(Budget(method="opq", sparsity=0.5, bits=4)) == pytest.approx(0.5 * 4 / 32)
    order = [expected_size(each) for each in widest_first(geta)]
    assert sorted(order) == sorted(map(expected_size, geta))
    assert order[:2] == [max(order), min(order)]
    nine = widest_first([Budget(sparsity=share) for share in SPARSITIES])
    assert [each.asks["sparsity"] for each in nine] == [0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.4, 0.6, 0.8]
    assert widest_first(geta[:1]) == geta[:1]


@pytest.mark.parametrize("least", [0.0, 1.0, 97.0])
def test_impossible_accuracies_are_refused(tmp_path: Path, least: float) -> None:
    with pytest.raises(CompressionError, match=r"between 0 and 1, such as 0\.97"):
        runs.find_smallest(Budget(model="resnet8", data="mnist5k"), least, root=tmp_path)


@pytest.mark.usefixtures("in_this_process")
def test_the_command_line_finds_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "sweep --model resnet8 --data mnist5k --method ptq --bits 2,3,4,5,6,8 --find smallest --sparsity 0"
    where = ["--runs", str(tmp_path), "--json", str(tmp_path / "result.json")]
    assert main([*words.split(), "--min-accuracy", "0.95", *where]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["found"]
    tried = {RunFolder(tmp_path / run["run"]).budget().asks["bits"]: run for run in result["runs"]}
    assert 2 <= len(tried) <= 3
    best = RunFolder(tmp_path / result["found"]).budget().asks["bits"]

    def validated(run: dict[str, Any]) -> float:
        return float([p for p in run["points"] if p["split"] == "validation"][-1]["accuracy"])

    assert {bits for bits, run in tried.items() if validated(run) >= 0.95 and bits <= best} == {best}
    assert main([*words.split(), *where]) == 2
    assert "go together" in capsys.readouterr().err
