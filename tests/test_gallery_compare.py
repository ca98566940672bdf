"""Comparisons on equal terms: settings are solved for, nothing is computed twice, and the nearest try counts."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compression import methods
from compression.budget import Budget

GALLERY = Path(__file__).resolve().parents[1] / "assets" / "gallery"
KINDS = ("ablation", "methods", "proof", "long")
PLANS = [path for kind in KINDS for path in sorted(GALLERY.glob(f"*/{kind}.json"))]
ROWS = [path for kind in KINDS for path in sorted(GALLERY.glob(f"*/{kind}.jsonl"))]


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery_compare", GALLERY / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_later_settings_win_and_none_removes(compare: ModuleType) -> None:
    base = {"lr": 1, "options": {"cost": "macs", "distill": 0.9}, "sparsity": 0.3}
    changed = compare.merged(base, {"options": {"cost": "none"}, "sparsity": None}, {"lr": 2})
    assert changed == {"lr": 2, "options": {"cost": "none", "distill": 0.9}}
    assert base["options"]["cost"] == "macs", "what is merged stays as it was"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("goal", [150.0, 1000.0, 4000.0])
def test_a_setting_is_solved_for(compare: ModuleType, sign: int, goal: float) -> None:
    """Against the inverse: bytes = 1000 exp(± x)."""
    value = compare.solved(lambda x: 1000 * math.exp(sign * x), goal, -2.0, 2.0)
    assert abs(1000 * math.exp(sign * value) / goal - 1) <= 1.01 * compare.CLOSE / 2


@pytest.mark.parametrize(("goal", "end"), [(50.0, -2.0), (9000.0, 2.0)])
def test_an_unreachable_goal_gives_the_nearer_end(compare: ModuleType, goal: float, end: float) -> None:
    assert compare.solved(lambda x: 1000 * math.exp(x), goal, -2.0, 2.0) == end


def world(compare: ModuleType, path: Path, drift: float) -> tuple[Any, list[dict[str, Any]]]:
    """Results of a network whose whole runs end ``drift`` times as large as short ones with the same setting."""
    computed: list[dict[str, Any]] = []

    class World(compare.Results):  # type: ignore[misc, name-defined]
        def compute(self, budget: dict[str, Any], seed: int) -> dict[str, Any]:
            computed.append(budget)
            options = budget["options"]
            power = options["cost_power"] * (1 if options["cost"] == "macs" else -1)
            size = 1000 * math.exp(power) * (1 if budget["epochs"] < 1 else drift)
            figures = dict.fromkeys(compare.FIGURES, 0.5) | {"nominal_bytes": size, "bytes": round(size)}
            return {**figures, "seconds": 1}

    return World(path), computed


MATCH = {
    "macs": True,
    "bytes": "nominal_bytes",
    "below": "parameters",
    "above": "macs",
    "range": [-1, 1.5],
    "glance": {"epochs": 0.03},
}
GOAL = {"macs": 40.0, "dense": {"macs": 100.0}, "nominal_bytes": 1800.0}


@pytest.mark.parametrize("drift", [1.0, 0.8, 1.3])
def test_a_method_is_matched_to_macs_and_bytes(compare: ModuleType, tmp_path: Path, drift: float) -> None:
    results, computed = world(compare, tmp_path / "rows.jsonl", drift)
    row = compare.matched(results, "w4", {"method": "sequential", "epochs": 3}, 0, GOAL, MATCH)
    assert abs(row["nominal_bytes"] / 1800 - 1) <= compare.CLOSE
    assert row["budget"]["macs"] == 0.6
    whole = [budget for budget in computed if budget["epochs"] == 3]
    assert len(whole) == len(results.rows) <= 2, "what the first whole run shows is enough for the second"
    again, computed = world(compare, tmp_path / "rows.jsonl", drift)
    assert compare.matched(again, "w4", {"method": "sequential", "epochs": 3}, 0, GOAL, MATCH) == row
    assert not [budget for budget in computed if budget["epochs"] == 3], "rows that are there are not computed again"


def test_the_table_has_means_over_seeds_of_the_nearest_tries(compare: ModuleType) -> None:
    def row(method: str, seed: int, accuracy: float, size: float) -> dict[str, Any]:
        figures = {"validation": accuracy, "accuracy": accuracy, "rel_bops": 0.05, "macs": 1e6}
        return {"name": "w4", "method": method, "seed": seed, **figures, "nominal_bytes": size, "bytes": size}

    rows = [row("geta", seed, 0.8 + seed / 100, 1000) for seed in (0, 1)]
    rows += [row("sequential", 0, 0.1, 1500), row("sequential", 0, 0.7, 1010), row("sequential", 1, 0.74, 990)]
    first, second = compare.table(rows).splitlines()[2:]
    assert [cell.strip() for cell in first.strip("|").split("|")][:5] == [
        "w4", "geta", "2", "80.50 %", f"80.50 ± {100 * math.sqrt(0.005**2 * 2):.2f} %",
    ]  # fmt: skip
    assert "| w4 | sequential | 2 | 72.00 % |" in second
    assert "| 1,000 |" in second
    assert "| other | 1 |" in compare.table([row("other", 0, 0.5, 10)]), "methods that are matched to nothing"


@pytest.mark.parametrize("path", PLANS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_every_budget_of_a_plan_can_be_read(compare: ModuleType, path: Path) -> None:
    plan = json.loads(path.read_text(encoding="utf-8"))
    terms = json.loads((GALLERY / "terms.json").read_text(encoding="utf-8"))
    if path.stem != "proof":
        budgets = [compare.merged(plan["budget"], change) for change in plan["changes"].values()]
    else:
        named = [dict(compare.budgets(plan["training"], asks, terms)) for asks in plan["budgets"].values()]
        assert {"activation_bits" in asks for asks in plan["budgets"].values()} == {True, False}
        for asks, of_method in zip(plan["budgets"].values(), named, strict=True):
            assert list(of_method) == ["geta", "sequential", *(() if "activation_bits" in asks else ("magnitude",))]
        budgets = [budget for of_method in named for budget in of_method.values()]
    assert budgets
    for values in budgets:
        budget = Budget.from_dict(values)
        methods.get(budget.method).check_budget(budget)


@pytest.mark.parametrize("path", ROWS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_rows_say_where_they_come_from(compare: ModuleType, path: Path) -> None:
    for row in compare.Results(path).rows:
        assert {"accuracy", "data", "epochs", "seed", "commit", "processor", "start"} <= row.keys()
        assert {*compare.FIGURES, "dense"} <= row.keys() or row["method"] == compare.DENSE
        assert "/" not in str(row["budget"].get("weights", ""))


def test_asks_become_those_of_each_method(compare: ModuleType) -> None:
    terms = {
        "first": {"asks": {"macs": "macs", "bits": "weight_bits"}, "budget": {"method": "first"}},
        "second": {"asks": {"bits": "bits"}, "budget": {"method": "second", "lr": 2}},
    }
    assert dict(compare.budgets({"lr": 1}, {"macs": 0.5, "bits": 4}, terms)) == {
        "first": {"method": "first", "lr": 1, "macs": 0.5, "weight_bits": [4, 4]},
        "second": {"method": "second", "lr": 2, "bits": 4},
    }
    assert not dict(compare.budgets({}, {"macs": 0.5, "bits": 4, "activation_bits": 8}, terms))


def test_the_setting_of_an_earlier_seed_is_tried_first(compare: ModuleType, tmp_path: Path) -> None:
    results, computed = world(compare, tmp_path / "rows.jsonl", 1.0)
    budget = {"method": "sequential", "epochs": 3}
    first = compare.matched(results, "w4", budget, 0, GOAL, MATCH)
    computed.clear()
    second = compare.matched(results, "w4", budget, 1, GOAL, MATCH)
    assert second["budget"] == first["budget"]
    assert computed == [second["budget"]], "one whole run, and nothing else"
    far = GOAL | {"nominal_bytes": 900.0}
    assert abs(compare.matched(results, "w4", budget, 2, far, MATCH)["nominal_bytes"] / 900 - 1) <= compare.CLOSE


def test_the_dense_model_is_trained_as_long_with_the_same_batches(compare: ModuleType, tmp_path: Path) -> None:
    """Really: ResNet-8 on digits, from the weights that ship, for a few steps; once, also when asked for again."""
    collection, weights = tmp_path / "digits", GALLERY.parent / "weights" / "resnet8-mnist5k.safetensors"
    collection.mkdir()
    training = {"model": "resnet8", "data": "mnist5k", "epochs": 0.1, "batch_size": 64, "lr": 0.01, "precision": "fp32"}
    budget = {**training, "method": "ptq", "weight_bits": 8, "lr": 0.01}
    (collection / "long.json").write_text(json.dumps({"budget": budget, "changes": {"w8": {}}}), encoding="utf-8")
    for _ in range(2):
        compare.changed("long", collection, weights, [], [0])
    dense, rounded = (json.loads(line) for line in (collection / "long.jsonl").read_text().splitlines())
    assert (dense["name"], dense["budget"], rounded["name"]) == ("dense", {"method": "dense", **training}, "w8")
    assert dense["start"] == rounded["start"]
    assert (dense["data"], dense["epochs"]) == (rounded["data"], 0.1)
    assert dense["accuracy"] == pytest.approx(rounded["dense"]["accuracy"], abs=0.02), "both on the test split"
    first, second = compare.table([dense, rounded]).splitlines()[2:]
    assert first.endswith("| – | – | – |"), "nothing is compressed"
    assert "–" not in second


README = (GALLERY / "README.md").read_text(encoding="utf-8")


def section(collection: str) -> str:
    """What the README of the gallery says of a collection."""
    return README.partition(f"\n## {collection}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", ROWS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_readme_says_what_the_runs_came_to(path: Path, compare: ModuleType) -> None:
    """Each mean of test accuracy, of the tries that count now, stands in the section of its collection."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    means = {tuple(line.split(" | ")[:2]): line.split(" | ")[4] for line in compare.table(rows).splitlines()[2:]}
    assert means
    written = section(path.parent.name)
    assert {name: mean for name, mean in means.items() if mean.removesuffix(" %").split(" ")[0] not in written} == {}


@pytest.mark.parametrize("collection", sorted({path.parent for path in ROWS}), ids=lambda path: path.name)
def test_tables_of_the_readme_are_those_of_the_runs(collection: Path, compare: ModuleType) -> None:
    """Rows under the heading of ``compare.py table`` are rows that it makes today, whole."""
    computed: set[str] = set()
    for path in collection.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        heading, _, *lines = compare.table(rows).splitlines()
        computed.update(lines)
    tables = section(collection.name).split(f"{heading}\n")[1:]
    shown = [line for table in tables for line in table.split("\n\n")[0].splitlines()[1:]]
    assert [line for line in shown if line not in computed] == []
