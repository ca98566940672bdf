"""The study of how many inputs a method needs that learns from a few: its score by their number, several draws."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs import studies
from compression.points import Point
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter
from compression.training.setup import Reporter, Setup

KIND = "calibration"
COUNTS = (16, 64, 256, 1024)
DRAWS = 5
OPTION = "samples"


def offered(name: str) -> bool:
    """Whether a method has an option for how many inputs it learns from."""
    return OPTION in methods.get(name).Config.model_fields


def request(budget: Budget) -> dict[str, Any]:
    """The study's parameters: the budget's method, asks, bounds and options, and which numbers of inputs."""
    plain = methods.get(budget.method).complete(budget).to_dict()
    options = {name: value for name, value in plain["options"].items() if name != OPTION}
    same = {name: plain[name] for name in ("method", "asks", "layers")}
    return {**same, "options": options, "counts": list(COUNTS), "draws": DRAWS}


class _Scores(Reporter):
    """Keeps the score of the first and the last point of a run, and lets it be stopped."""

    def __init__(self, events: RunReporter) -> None:
        self._events = events
        self.scores: list[float] = []

    def point(self, point: Point) -> None:
        self.scores.append(point.score)

    def check(self) -> None:
        self._events.check()


def carry_out(
    folder: RunFolder,
    events: RunReporter,
    *,
    method: str,
    asks: Mapping[str, Any],
    layers: Mapping[str, Any],
    options: Mapping[str, Any],
    counts: list[int],
    draws: int,
) -> dict[str, Any]:
    """Compress the dense model with each number of inputs, drawn anew ``draws`` times by other seeds.

    ``rows`` of the result: ``count``, ``draw`` and ``score``, the last one of the run, on validation images; ``first``:
    its first score, before any layer was looked at, the middle one of the draws.

    Raises:
        CompressionError: the method has no such option, or the budget cannot be met.
        Cancelled: the job was asked to stop.
    """
    from compression.graph import deep_copy

    if not offered(method):
        raise CompressionError(f"{method} does not learn from a number of inputs: it has no option {OPTION}")
    budget = folder.budget().replace(method=method, asks=dict(asks), layers=layers)
    subject, graph = studies.opened(folder, budget)
    tried = sorted({min(count, len(subject.data.train)) for count in counts})
    events.plan(len(tried) * draws, unit="runs")
    rows, firsts = [], []
    for count in tried:
        for draw in range(draws):
            each = budget.replace(seed=draw, options={**options, OPTION: count})
            report = _Scores(events)
            methods.get(method).run(Setup(deep_copy(subject.model), graph, subject.task, each), report)
            rows.append({"count": count, "draw": draw, "score": report.scores[-1]})
            firsts.append(report.scores[0])
            events.step(len(rows), 0.0, score=report.scores[-1])
    first = statistics.median(firsts)
    return {"method": method, "metric": subject.task.metric.to_dict(), "first": first, "rows": rows}
