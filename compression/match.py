"""Budgets of equal size: the value of a method's main ask at which its forecast meets a target.

The main ask is how much is removed, where the method removes anything, else the bits of the weights. Its values are
those of its slider; the forecast falls along them, so that bisection leads to the first that meets the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from compression import methods
from compression.asks import AMOUNTS, BITS_OPTION, Ask, Control
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject

Quantity = Literal["bytes", "macs", "bops"]
QUANTITIES: tuple[Quantity, ...] = ("bytes", "macs", "bops")
EACH = 1e-6  # of a target: differences in the last digits of a float do not count


@dataclass(frozen=True)
class Match:
    """The ``budget`` whose ``forecast`` is ``value`` (bytes, MACs or BOPs), the largest within the target.

    ``met``: whether it is; else this is the smallest that the ask reaches.
    """

    budget: Budget
    forecast: Forecast
    value: float
    met: bool


def main_ask(budget: Budget) -> Ask:
    """The ask that is moved: what says how much is removed, else the bits of the weights.

    Raises:
        CompressionError: the method has neither.
    """
    method = methods.get(budget.method)
    removal = [ask for ask in method.asks if ask.field in AMOUNTS]
    active = next((ask for ask in removal if ask.value(budget.asks) is not None), None)
    ask = active or (removal[0] if removal else method.ask(BITS_OPTION))
    if ask is None or ask.control() is None:
        raise CompressionError(f"{method.info.name} has no ask that its size could be matched with")
    return ask


def quantity(forecast: Forecast, name: Quantity) -> float:
    """Bytes, MACs or BOPs of a forecast; the middle where they depend on what the run decides.

    Raises:
        CompressionError: nothing is known before the run.
    """
    if forecast.bytes is None or forecast.low is None or forecast.high is None:
        raise CompressionError(forecast.notes[0] if forecast.notes else "nothing is known before the run")
    if name == "bytes":
        return sum(forecast.bytes) / 2
    ends = [float(getattr(cost, name)) for cost in (forecast.low, forecast.high)]
    return sum(ends) / 2


def solve(subject: Subject, budget: Budget, name: Quantity, target: float) -> Match:
    """The budget of the same method with its main ask moved until the forecast is at the target or just below.

    Args:
        target: bytes, MACs or BOPs, above 0.

    Raises:
        CompressionError: a target that is none, a method without a forecast, or bounds that cannot be met at all.
    """
    if name not in QUANTITIES or not target > 0:
        raise CompressionError(f"a match needs one of {', '.join(QUANTITIES)} and a number above 0, not {target:g}")
    method, ask = methods.get(budget.method), main_ask(budget)
    values = _values(ask, budget)
    tried: dict[int, tuple[Budget, Forecast] | None] = {}

    def at(index: int) -> tuple[Budget, Forecast] | None:
        """Budget and forecast at the index-th value; ``None`` where the network cannot give it."""
        if index not in tried:
            moved = budget.replace(asks={**_others(budget, ask), ask.field: ask.accept(values[index])})
            try:
                tried[index] = (moved, method.forecast(subject, moved))
            except CompressionError:
                tried[index] = None
        return tried[index]

    start = next((index for index in range(len(values)) if at(index) is not None), None)
    if start is None:  # raises the reason
        method.forecast(subject, budget)
        raise CompressionError(f"{method.info.name}: no value of {ask.field} can be reached here")
    end = _first(start, len(values), lambda index: at(index) is None) or len(values)

    def small(index: int) -> bool:
        reached = at(index)
        return reached is not None and quantity(reached[1], name) <= target * (1 + EACH)

    # what keeps most may be small already: the positions of a few zeros first make the file larger
    least = start if small(start) else _first(start, end, small)
    moved, forecast = at(end - 1 if least is None else least) or (budget, method.forecast(subject, budget))
    return Match(moved, forecast, quantity(forecast, name), least is not None)


@dataclass(frozen=True)
class Offer:
    """What a method has for a target: its ``match``, or the ``reason`` why there is none."""

    method: str
    match: Match | None
    reason: str = ""


def offers(subject: Subject, budget: Budget, name: Quantity, target: float) -> list[Offer]:
    """The budget of every method at a target, all converted from ``budget``: its training, seed and bounds."""
    source, result = methods.get(budget.method), []
    for method in methods.all_methods().values():
        try:
            own = budget if method is source else method.convert(budget, source)
            result.append(Offer(method.info.name, solve(subject, own, name, target)))
        except CompressionError as error:
            result.append(Offer(method.info.name, None, str(error)))
    return result


def _first(start: int, end: int, holds: Callable[[int], bool]) -> int | None:
    """The first of start … end - 1 from which on ``holds``; ``None``: it never does."""
    low, high = start - 1, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high if high < end else None


def _others(budget: Budget, ask: Ask) -> dict[str, object]:
    """The other asks, without those that say the same in another way."""
    return {name: value for name, value in budget.asks.items() if ask.field not in AMOUNTS or name not in AMOUNTS}


def _values(ask: Ask, budget: Budget) -> list[object]:
    """The values of an ask's slider, those that keep most first; a range keeps its lower end as long as it can."""
    control = ask.control()
    assert control is not None
    numbers = _numbers(control)
    if ask.field in AMOUNTS:
        return list(numbers)
    if control.kind != "range":
        return list(reversed(numbers))
    low = ask.value(budget.asks)[0]
    return [(min(low, number), number) for number in reversed(numbers)]


def _numbers(control: Control) -> list[float]:
    steps = round((control.high - control.low) / control.step)
    numbers = [round(control.low + index * control.step, 6) for index in range(steps + 1)]
    return [int(number) if isinstance(control.step, int) else number for number in numbers]
