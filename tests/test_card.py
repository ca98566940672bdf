"""The model card says what each method did: what its budget asks of it, and nothing that it does not follow."""

from __future__ import annotations

from typing import Any

import pytest

from compression import methods
from compression.budget import Budget
from compression.export.findings import verdicts

ASKED = {
    "geta": "30 % of the units removed, 3 to 7 bits a weight, 6 to 8 bits an activation; 2 epochs, seed 5",
    "sequential": "30 % of the units removed, 7 bits for the weights of every layer, 8 bits an activation; 2 epochs, "
    "seed 5",
    "opq": "30 % of the weights at zero, 5.5 bits a weight on average; 2 epochs, seed 5",
    "magnitude": "30 % of the weights at zero, 5 bits for the weights of every layer; 2 epochs, seed 5",
    "ptq": "5 bits for the weights of every layer, 8 bits an activation; nothing is trained",
}


def budget_of(method: str, **more: Any) -> dict[str, Any]:
    """One budget for all of them, each part of it set."""
    common = {"sparsity": 0.3, "weight_bits": (3, 7), "bits": 5.5, "activation_bits": (6, 8), "epochs": 2, "seed": 5}
    return Budget(method=method, **{**common, **more}).to_dict()


@pytest.mark.parametrize("method", methods.names())
def test_the_card_says_what_was_asked_of_the_method(method: str) -> None:
    found = methods.get(method)
    line = found.describe(Budget.from_dict(budget_of(method)))
    assert line == ASKED.get(method, line)
    assert ("units removed" in line) == (found.removes_units)
    assert ("weights at zero" in line) == any(ask.caveat() for ask in found.asks)
    assert ("an activation" in line) == bool(found.ask("--activation-bits"))


def test_bounds_and_options_are_named() -> None:
    asked = budget_of("opq", layers={"conv1": {"weight_bits": [3, 4]}}, options={"grid": "survivor"})
    assert "1 bound of single layers or groups, grid survivor" in methods.get("opq").describe(Budget.from_dict(asked))


@pytest.mark.parametrize("method", methods.names())
def test_limits_and_times_speak_of_the_shape_that_the_method_left(method: str) -> None:
    found = methods.get(method)
    limits = " ".join(found.caveats({}))
    assert ("unstructured" in limits) == (any(ask.caveat() for ask in found.asks))
    times = {name: {"name": name, "median": ms} for name, ms in (("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0))}
    said = " ".join(verdicts(times, budget_of(method)))
    assert ("removes no units" in said) == (not found.removes_units)
