"""The model card says what each method did: what its budget asks of it, and nothing that it does not follow."""

from __future__ import annotations

import re
from typing import Any

import pytest

from compression import methods
from compression.budget import Budget
from compression.export import card
from compression.export.findings import verdicts

ABOUT = {
    "model": "resnet8", "run": "run", "data": "MNIST", "classes": ["a", "b"], "input": [1, 28, 28], "multiple": 1,
    "rebuilt": False, "preprocessing": {"mean": [0.1], "std": [0.3]},
}  # fmt: skip
ASKED = {
    "geta": "30% of the units removed, 3 to 7 bits a weight, 6 to 8 bits an activation; 2 epochs, seed 5",
    "sequential": "30% of the units removed, 7 bits for the weights of every layer, 8 bits an activation; 2 epochs, "
    "seed 5",
    "opq": "30% of the weights at zero, 5.5 bits a weight on average; 2 epochs, seed 5",
    "magnitude": "30% of the weights at zero, 5 bits for the weights of every layer; 2 epochs, seed 5",
    "ptq": "5 bits for the weights of every layer, 8 bits an activation; nothing was trained",
}


def budget_of(method: str, **more: Any) -> dict[str, Any]:
    """One budget for all of them, each part of it set."""
    common = {"sparsity": 0.3, "weight_bits": (3, 7), "bits": 5.5, "activation_bits": (6, 8), "epochs": 2, "seed": 5}
    return Budget(method=method, **{**common, **more}).to_dict()


@pytest.mark.parametrize("method", methods.names())
def test_the_card_says_what_was_asked_of_the_method(method: str) -> None:
    head = card._head(ABOUT, budget_of(method))
    (line,) = re.findall(r"^Asked for: (.*)\. The whole", head, re.MULTILINE)
    assert line == ASKED.get(method, line)
    found = methods.get(method)
    assert head.startswith(f"# resnet8, compressed with {found.label}\n")
    assert ("units removed" in line) == (found.structured and found.uses.sparsity)
    assert ("weights at zero" in line) == (not found.structured and found.uses.sparsity)
    assert ("an activation" in line) == found.uses.activations


def test_bounds_and_options_are_named() -> None:
    asked = budget_of("opq", layers={"conv1": {"weight_bits": [3, 4]}}, options={"grid": "survivor"})
    assert "1 bound of single layers or groups, grid survivor" in card._head(ABOUT, asked)


@pytest.mark.parametrize("method", methods.names())
def test_limits_and_times_speak_of_the_shape_that_the_method_left(method: str) -> None:
    found = methods.get(method)
    limits = card._limits(ABOUT, budget_of(method), {})
    assert ("unstructured" in limits) == (found.uses.sparsity and not found.structured)
    times = {name: {"name": name, "median": ms} for name, ms in (("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0))}
    said = " ".join(verdicts(times, budget_of(method)))
    assert ("removes no units" in said) == (not found.structured)
