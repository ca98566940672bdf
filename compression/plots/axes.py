"""The costs that runs are compared by: packed size, BOPs, MACs, nominal size, latency; each with unit and words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from compression.plots import words
from compression.tasks import Metric

PointDict = Mapping[str, Any]
LATENCY = "latency"


@dataclass(frozen=True)
class Axis:
    """A cost: ``field`` of a point, its name and unit, and the words for less, more and equal cost."""

    field: str
    label: str
    title: str
    show: Callable[[float], str]
    less: str
    more: str
    same: str
    unbeaten: str
    least: str


AXES = {
    axis.field: axis
    for axis in (
        Axis(
            "bytes", "Packed size", "size of the packed file", words.size, "smaller", "larger", "Just as large",
            "no other run is both smaller and better", "The smallest",
        ),
        Axis(
            "rel_bops", "BOPs", "BOPs, of the dense fp32 model", lambda share: f"{100 * share:.3g} %", "fewer BOPs",
            "more BOPs", "As many BOPs", "no other run has both fewer BOPs and a better {score}", "The cheapest",
        ),
        Axis(
            "macs", "MACs", "MACs for one image", words.count, "fewer MACs", "more MACs", "As many MACs",
            "no other run has both fewer MACs and a better {score}", "The cheapest",
        ),
        Axis(
            "nominal_bytes", "Nominal size", "nominal size", words.size, "smaller by count", "larger by count",
            "Just as large by count", "no other run is both smaller by count and better", "The smallest",
        ),
        Axis(
            LATENCY, "Latency", "milliseconds for one example, fastest exported file", words.milliseconds,
            "faster", "slower", "Just as fast", "no other run is both faster and better", "The fastest",
        ),
    )
}  # fmt: skip


def drawable(point: PointDict | None, axis: Axis) -> bool:
    """Does the point hold a score and a cost above nothing on this axis?"""
    if point is None:
        return False
    numbers = (point.get(axis.field), point.get("score"))
    return all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers) and point[axis.field] > 0


def against_dense(dense: PointDict | None, point: PointDict, axis: Axis, metric: Metric) -> str:
    """``14.2× smaller and 1.2 points less accurate than the dense model``."""
    if dense is None or not drawable(dense, axis):
        return f"{axis.show(point[axis.field])} with {metric.show(point['score'])} {metric.label}"
    cost = _change(dense[axis.field], point[axis.field], axis)
    return f"{cost} and {metric.against(dense['score'], point['score'])} the dense model"


def _change(dense: float, compressed: float, axis: Axis) -> str:
    ratio = dense / compressed
    if ratio > 1.05:
        return f"{words.ratio(ratio)} {axis.less}"
    return axis.same if ratio >= 1 / 1.05 else f"{words.ratio(1 / ratio)} {axis.more}"


def chance(accuracy: float, images: int) -> float:
    """Half the width of the 95 % interval of an accuracy counted on so many images (normal approximation)."""
    return 1.96 * math.sqrt(max(0.0, accuracy * (1 - accuracy)) / images) if images else 1.0
