"""Budgets of equal size against every value of the ask tried by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compression import match, methods, zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject
from compression.graph import trace

MODEL, INPUT, CLASSES = "resnet8", (1, 28, 28), 10


@pytest.fixture(scope="module")
def subject() -> Subject:
    model = zoo.build(MODEL, INPUT, CLASSES).eval()
    return Subject(model, trace(model, zoo.example(MODEL, input=INPUT)))


def grid(subject: Subject, budget: Budget) -> Iterator[tuple[Budget, Forecast]]:
    """Every budget that moves the main ask, those that keep most first; what the network cannot give is left out."""
    ask = match.main_ask(budget)
    control = ask.control()
    assert control is not None
    steps = round((control.high - control.low) / control.step)
    numbers = [control.low + i * control.step for i in range(steps + 1)]
    removes = ask.field in ("sparsity", "macs", "bops")
    for number in numbers if removes else reversed(numbers):
        rounded = round(number, 6) if isinstance(control.step, float) else round(number)
        value = (min(ask.value(budget.asks)[0], rounded), rounded) if control.kind == "range" else rounded
        asks = {
            name: each for name, each in budget.asks.items() if not removes or name not in ("sparsity", "macs", "bops")
        }
        moved = budget.replace(asks={**asks, ask.field: value})
        try:
            yield moved, methods.get(budget.method).forecast(subject, moved)
        except CompressionError:
            assert removes, "every width is possible"


@pytest.mark.parametrize("budget", [
    Budget(method="geta", sparsity=0.1, weight_bits=(4, 8)),
    Budget(method="geta", asks={"macs": 0.3, "weight_bits": [3, 6]}),
    Budget(method="opq", bits=2.0),
    Budget(method="ptq"),
    Budget(method="magnitude"),
    Budget(method="bsq"),
], ids=lambda budget: f"{budget.method} {'macs' if 'macs' in budget.asks else ''}")  # fmt: skip
def test_the_first_value_that_meets_the_target_is_solved_for(subject: Subject, budget: Budget) -> None:
    tried = [(each, match.quantity(forecast, "bytes")) for each, forecast in grid(subject, budget)]
    sizes = [size for _, size in tried]
    for target in (max(sizes) * 2, sizes[0], sizes[len(sizes) // 3] * 1.001, sizes[-1], (sizes[0] + sizes[-1]) / 2):
        solved = match.solve(subject, budget, "bytes", target)
        expected = next((each, size) for each, size in tried if size <= target * (1 + 1e-6))
        assert solved.met
        assert solved.budget.asks == expected[0].asks
        assert solved.value == expected[1] <= target * (1 + 1e-6)
    none = match.solve(subject, budget, "bytes", sizes[-1] / 3)
    assert (none.met, none.value) == (False, sizes[-1])


@pytest.mark.parametrize("name", ["macs", "bops"])
def test_work_is_matched_as_bytes_are(subject: Subject, name: match.Quantity) -> None:
    budget = Budget(method="geta", sparsity=0.1)
    tried = [match.quantity(forecast, name) for _, forecast in grid(subject, budget)]
    target = (tried[0] + tried[-1]) / 2
    solved = match.solve(subject, budget, name, target)
    assert solved.value == next(value for value in tried if value <= target)
    if name == "macs":
        assert not match.solve(subject, Budget(method="opq"), name, target).met, "single zeros save no MACs"


def test_what_is_no_target_is_refused(subject: Subject) -> None:
    for target in (0.0, -1.0, float("nan")):
        with pytest.raises(CompressionError, match="above 0"):
            match.solve(subject, Budget(method="opq"), "bytes", target)
    with pytest.raises(CompressionError, match="one of bytes"):
        match.solve(subject, Budget(method="opq"), "seconds", 1.0)  # type: ignore[arg-type]
    impossible = Budget(method="geta", groups={"layer3.0.conv1": {"sparsity": [0.99, 1.0]}})
    with pytest.raises(CompressionError, match="layer3"):
        match.solve(subject, impossible, "bytes", 5000.0)


def test_a_size_that_the_run_decides_counts_by_its_middle(subject: Subject) -> None:
    forecast = methods.get("geta").forecast(subject, Budget(method="geta", weight_bits=(4, 8)))
    assert forecast.bytes is not None and forecast.low is not None and forecast.high is not None
    assert forecast.bytes[0] < match.quantity(forecast, "bytes") < forecast.bytes[1]
    assert 2 * match.quantity(forecast, "bytes") == sum(forecast.bytes)
    assert match.quantity(forecast, "macs") == forecast.low.macs == forecast.high.macs
    assert 2 * match.quantity(forecast, "bops") == forecast.low.bops + forecast.high.bops
    with pytest.raises(CompressionError, match="before"):
        match.quantity(Forecast.unknown("Nothing is known before the run."), "bytes")
