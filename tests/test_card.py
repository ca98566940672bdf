"""The model card says what each method did: what its budget asks of it, and nothing that it does not follow."""

from __future__ import annotations

import re
from typing import Any

import pytest

from compression import methods
from compression.budget import Budget
from compression.export.findings import eight_bit, verdicts

NUMBERS = {
    "geta": [30, 3, 7, 6, 8, 2, 5],
    "sequential": [30, 7, 8, 2, 5],
    "opq": [30, 5.5, 2, 5],
    "magnitude": [30, 5, 2, 5],
    "ptq": [5, 8],
}
"""Sparsity in percent, bits of weights, bits of activations, epochs and seed, of those that the method follows."""


def budget_of(method: str, **more: Any) -> dict[str, Any]:
    """One budget for all of them, each part of it set."""
    common = {"sparsity": 0.3, "weight_bits": (3, 7), "bits": 5.5, "activation_bits": (6, 8), "epochs": 2, "seed": 5}
    return Budget(method=method, **{**common, **more}).to_dict()


@pytest.mark.parametrize("method", methods.names())
def test_the_card_says_what_was_asked_of_the_method(method: str) -> None:
    chosen, budget = methods.get(method), Budget.from_dict(budget_of(method))
    line = chosen.describe(budget)
    numbers = [float(number) for number in re.findall(r"[\d.]*\d", line)]
    assert numbers == NUMBERS.get(method, numbers)
    assert all(ask.words(ask.value(budget.asks)) in line for ask in chosen.asks)
    assert ("units" in line) == (chosen.removes_units and chosen.ask("--sparsity") is not None)
    assert ("zero" in line) == (chosen.ask("--sparsity") is not None and not chosen.removes_units)
    assert ("activation" in line) == bool(chosen.ask("--activation-bits"))


def test_bounds_and_options_are_named() -> None:
    plain = methods.get("opq").describe(Budget.from_dict(budget_of("opq")))
    bounded = budget_of("opq", layers={"conv1": {"weight_bits": [3, 4]}}, options={"grid": "survivor"})
    line = methods.get("opq").describe(Budget.from_dict(bounded))
    assert sorted(re.findall(r"[\d.]*\d", line)) == sorted(["1", *re.findall(r"[\d.]*\d", plain)])
    assert re.search(r"grid\W+survivor", line) and "grid" not in plain


@pytest.mark.parametrize("method", methods.names())
def test_limits_and_times_speak_of_the_shape_that_the_method_left(method: str) -> None:
    chosen = methods.get(method)
    limits = " ".join(chosen.caveats({}))
    zeroes_weights = chosen.ask("--sparsity") is not None and not chosen.removes_units
    assert ("unstructured" in limits) == zeroes_weights
    assert all(ask.caveat() in limits for ask in chosen.asks)
    times = {name: {"name": name, "median": ms} for name, ms in (("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0))}
    units = [line for line in verdicts(times, budget_of(method)) if chosen.info.label in line]
    assert len(units) == (not chosen.removes_units)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["int8", "int8"], r"^the same in 8-bit integer arithmetic, missing ranges calibrated$"),
        (["int8", "fp32", "int8 table"], r"integer arithmetic.*; 2 of 3 layers compute in floats$"),
        (["int4 table", "fp32"], r"^(?!.*integer).*every layer computes in floats$"),
    ],
)
def test_a_file_of_layers_in_floats_is_not_called_integer_arithmetic(kinds: list[str], words: str) -> None:
    assert re.search(words, eight_bit({"layers": {str(number): kind for number, kind in enumerate(kinds)}}))
