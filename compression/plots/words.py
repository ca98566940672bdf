"""Numbers as text, with their units: counts and bytes with decimal prefixes, shares, durations, bit-widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import humanize

from compression.tasks import Metric

MINUS = "−"


def count(value: float) -> str:
    """``19810`` → ``19.8 k``: three significant digits with a decimal prefix."""
    return humanize.metric(value, precision=3) if abs(value) >= 1000 else f"{value:.0f}"


def size(value: float) -> str:
    """Bytes with a decimal unit: ``79240`` → ``79.2 kB``."""
    text = count(value)
    return f"{text}B" if " " in text else f"{text} B"


def share(value: float | None, digits: int = 1) -> str:
    """A share in 0..1 as a percentage: ``0.9812`` → ``98.1 %``."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def scored(result: Mapping[str, Any]) -> str:
    """The score that a run ended with, and what it is: ``97.3 % test accuracy``."""
    metric = Metric.from_result(result)
    return f"{metric.show(result['final']['score'])} test {metric.label}"


def between(low: float, high: float, show: Callable[[float], str]) -> str:
    """``3.2–5.7 kB``: the unit once when both ends have the same."""
    first, last = show(low), show(high)
    if first == last:
        return first
    number, space, unit = first.partition(" ")
    if space and last.endswith(f" {unit}"):
        return f"{number}–{last}"
    return f"{first.rstrip('×')}–{last}" if first.endswith("×") else f"{first}–{last}"


def signed(difference: float, show: Callable[[float], str]) -> str:
    """A difference with its sign; ``same`` where ``show`` prints it as it prints zero."""
    text = show(abs(difference))
    if text == show(0.0):
        return "same"
    return f"{'+' if difference > 0 else MINUS}{text}"


def ratio(value: float) -> str:
    """How many times smaller: ``7.64`` → ``7.6×``."""
    return f"{value:.0f}×" if value >= 100 else f"{value:.1f}×"


def milliseconds(value: float) -> str:
    """``0.1234`` → ``0.123 ms``."""
    return f"{value:.3g} ms"


def duration(seconds: float) -> str:
    """Seconds for people: ``75`` → ``1 min 15 s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ago(seconds: float) -> str:
    """How long ago: ``75`` → ``a minute ago``."""
    return humanize.naturaltime(timedelta(seconds=max(0.0, seconds)))


def shape(sizes: tuple[int, ...] | list[int]) -> str:
    """``(1, 28, 28)`` → ``1×28×28``."""
    return "×".join(str(s) for s in sizes)


def bits(bounds: tuple[float, float] | list[float]) -> str:
    """A bit range: ``(4, 8)`` → ``4–8 bits``; one number when both ends agree."""
    low, high = bounds
    return f"{low:g} bits" if low == high else f"{low:g}–{high:g} bits"


def plural(number: int, word: str) -> str:
    """``1 unit``, ``2 units``."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")
