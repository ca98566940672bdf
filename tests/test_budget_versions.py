"""Budget files: every one of version 1 that ships means what it meant, and version 2 comes back as it was written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.budget import budget_upload
from compression import methods, zoo
from compression.budget import VERSION, Budget
from compression.errors import CompressionError
from compression.export import apply
from compression.methods.geta.schedule import Schedule
from compression.runs.preflight import check

ASSETS = Path(__file__).resolve().parents[1] / "assets"
OLD = ["sparsity", "weight_bits", "activation_bits", "bits", "schedule", "lr_quant"]
METHODS_OF_VERSION_1 = ("geta", "opq", "sequential", "magnitude", "ptq")


def version_1() -> list[dict[str, Any]]:
    """Every budget of version 1 in the gallery: of runs' specs, and of the files that they are made from."""
    budgets = []
    for path in sorted(ASSETS.rglob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        plain = value.get("budget", value) if isinstance(value, dict) else None
        fields = {*Budget.model_fields, *OLD} - {"asks"}
        if isinstance(plain, dict) and {"method", "model"} <= plain.keys() <= fields and plain.get("version", 1) == 1:
            budgets.append(plain)
    return budgets


def test_every_budget_that_ships_is_read_and_means_what_it_meant() -> None:
    budgets = version_1()
    assert len(budgets) > 50
    assert {each["method"] for each in budgets} == set(METHODS_OF_VERSION_1)
    for plain in budgets:
        budget = Budget.from_dict(plain)
        assert budget.version == VERSION
        for name in plain.keys() - {"version", *OLD}:
            assert json.loads(json.dumps(getattr(budget, name))) == plain[name], name
        for name in plain.keys() & set(OLD):
            assert json.loads(json.dumps(budget.asks[name])) == plain[name], name
        _check_values(plain, methods.get(plain["method"]).values(budget))
        assert Budget.from_dict(json.loads(json.dumps(budget.to_dict()))) == budget


def _check_values(plain: dict[str, Any], values: dict[str, Any]) -> None:
    """What version 1 said that each of its methods reads."""
    sparsity, weights = plain.get("sparsity", 0.5), plain.get("weight_bits", [4, 8])
    average, activations = plain.get("bits", 4.0), plain.get("activation_bits")
    expected = {
        "geta": {"weight_bits": tuple(weights), "activation_bits": activations and tuple(activations)},
        "sequential": {
            "weight_bits": math.floor(weights[1]),
            "activation_bits": activations and math.floor(activations[1]),
        },
        "opq": {"bits": average},
        "magnitude": {"bits": math.floor(average)},
        "ptq": {"bits": math.floor(average), "activation_bits": activations and math.floor(activations[1])},
    }[plain["method"]]
    if plain["method"] != "ptq":
        expected["sparsity"] = sparsity
    if plain["method"] == "geta":
        expected["schedule"] = Schedule(**plain.get("schedule", {}))
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize("method", METHODS_OF_VERSION_1)
def test_a_file_of_version_1_without_a_field_means_its_default_of_then(method: str) -> None:
    read = methods.get(method).values(Budget.from_dict({"version": 1, "method": method}))
    _check_values({"method": method}, read)
    named = Budget.from_dict({"version": 1, "method": method, "bits": 6.5})
    _check_values({"method": method, "bits": 6.5}, methods.get(method).values(named))


def test_a_field_beside_the_others_is_an_ask() -> None:
    budget = Budget(method="geta", sparsity=0.3, asks={"sparsity": 0.4, "weight_bits": (3, 5)})
    assert budget.asks == {"sparsity": 0.3, "weight_bits": (3, 5)}
    assert budget.replace(sparsity=0.6, epochs=2).asks == {"sparsity": 0.6, "weight_bits": (3, 5)}
    assert "sparsity" not in budget.to_dict()
    assert budget.to_dict()["asks"] == {"sparsity": 0.3, "weight_bits": [3, 5]}


def test_fields_of_other_methods_stay_and_are_named_as_unused() -> None:
    budget = Budget(method="ptq", asks={"bits": 4, "sparsity": 0.5, "rank": 8})
    method = methods.get("ptq")
    assert method.unused(budget) == ["sparsity", "rank"]
    assert method.complete(budget).asks == {"bits": 4, "sparsity": 0.5, "rank": 8, "activation_bits": None}
    pruned = methods.get("opq").convert(budget, method)
    assert pruned.asks == {"sparsity": 0.5, "bits": 4.0}, "rounding asks for no sparsity: the default of the other"


@pytest.mark.parametrize(
    ("source", "asks", "target", "expected"),
    [
        ("geta", {"weight_bits": (4, 8), "sparsity": 0.3}, "opq", {"bits": 6.0, "sparsity": 0.3}),
        ("geta", {"weight_bits": (4, 7)}, "sequential", {"weight_bits": 7}),
        ("geta", {"weight_bits": (3, 6)}, "ptq", {"bits": 6}),
        ("opq", {"bits": 3.5}, "geta", {"weight_bits": (3, 4)}),
        ("opq", {"bits": 3.5}, "magnitude", {"bits": 3}),
        ("opq", {"bits": 3.5}, "sequential", {"weight_bits": 3}),
        ("sequential", {"weight_bits": 5}, "geta", {"weight_bits": (5, 5)}),
        ("sequential", {"weight_bits": 5, "activation_bits": 6}, "geta", {"activation_bits": (6, 6)}),
        ("ptq", {"bits": 5, "activation_bits": 7}, "sequential", {"weight_bits": 5, "activation_bits": 7}),
    ],
)
def test_a_budget_for_another_method(source: str, asks: dict[str, Any], target: str, expected: dict[str, Any]) -> None:
    budget = Budget(method=source, asks=asks, options={}, lr=0.3, epochs=2)
    other = methods.get(target).convert(budget, methods.get(source))
    assert {name: other.asks[name] for name in expected} == expected
    assert (other.method, other.epochs, other.lr) == (target, 2, None)


def test_what_no_version_has_is_refused() -> None:
    for raw, message in (
        ({"version": 3}, "versions 1 to 2"),
        ({"version": True}, "version True"),
        ({"version": 2, "sparsty": 0.5}, "unknown field 'sparsty'"),
        ({"asks": []}, "asks must be an object"),
        ({"asks": {"sparsity": 2}}, "sparsity must be in"),
        ({"asks": {"weight_bits": [8, 4]}}, "weight_bits: the lower bound 8"),
    ):
        with pytest.raises(CompressionError, match=message):
            Budget.from_dict(raw)


USES = [methods.of_budget, check, budget_upload.check_shown, partial(apply, zoo.build("resnet8"))]


@pytest.mark.parametrize("use", USES)
def test_a_misspelt_ask_is_refused_where_a_budget_is_used(use: Callable[[Budget], object]) -> None:
    misspelt = Budget.from_dict({"version": 2, "method": "opq", "asks": {"sparsty": 0.9}})
    with pytest.raises(CompressionError, match=r"asks: no method asks for 'sparsty'; known: sparsity, .*schedule"):
        use(misspelt)


def test_what_another_method_asks_for_is_no_mistake() -> None:
    _, complete = methods.of_budget(Budget(method="opq", asks={"weight_bits": (3, 5)}))
    assert complete.asks == {"weight_bits": (3, 5), "sparsity": 0.5, "bits": 4.0}


@pytest.mark.parametrize("method", methods.names())
def test_an_option_that_nothing_has_is_refused(method: str) -> None:
    budget = Budget(method=method)
    with pytest.raises(CompressionError, match=rf"no option --rank; .*{method} has: .*--bits"):
        methods.with_values(budget, {"--rank": 8})
    with pytest.raises(CompressionError, match=r"sparsity must be in \[0, 1\)"):
        methods.with_values(budget, {"--sparsity": 1.5})  # also where it is not read
    assert methods.with_values(budget, {"--sparsity": 0.25}).asks == {"sparsity": 0.25}
