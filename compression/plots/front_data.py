"""What the front of score against size shows: the dense model, the open run's points, and the finished runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from compression.front import dominated, front
from compression.plots import theme, words
from compression.plots.axes import AXES, PointDict, drawable
from compression.tasks import ACCURACY, Metric

MOST_POINTS = 2000


@dataclass(frozen=True)
class FrontRun:
    """What the front needs of one run: its points so far, and baseline and final once they are known.

    ``unit`` is what its steps are: ``steps`` of training, or the ``layers`` a method goes through; ``metric`` that of
    its task.
    """

    run: str
    label: str
    method: str
    points: tuple[PointDict, ...] = ()
    baseline: PointDict | None = None
    final: PointDict | None = None
    unit: str = "steps"
    metric: Metric = ACCURACY


@dataclass(frozen=True)
class FrontPoint:
    """One marker: where it is, whose it is, and the sentence that explains it."""

    run: str
    method: str
    bytes: float
    score: float
    split: str
    sentence: str
    dominated: bool = False
    estimated: bool = False


@dataclass(frozen=True)
class FrontInfo:
    """``trail``: the open run in the order of its steps; ``finals``: one for each finished run; ``dense``: the stars.

    ``latest`` is the present point of the open run: its final point once there is one.
    """

    trail: tuple[FrontPoint, ...]
    finals: tuple[FrontPoint, ...]
    dense: tuple[FrontPoint, ...]
    method: str
    latest: FrontPoint | None = None
    metric: Metric = ACCURACY

    @property
    def ended(self) -> FrontPoint | None:
        """Where the open run ended: its model on test data, as a file; ``None`` before."""
        return self.latest if self.latest in self.finals else None

    @property
    def own_front(self) -> tuple[FrontPoint, ...]:
        """The open run's points that none of its others beats, from small to large; none once it has ended.

        They are measured on validation data and their sizes estimated: beside the end they would look like results.
        """
        return () if self.ended else unbeaten(self.trail, self.metric)

    @property
    def same_model(self) -> tuple[FrontPoint, ...]:
        """The open run's last point on the way and its end: one model, measured on other data and as a file."""
        return (self.trail[-1], self.ended) if self.ended and self.trail else ()

    @property
    def floor(self) -> float:
        """The worst score drawn at first: beyond it lie only moments a run passed through, not results."""
        metric = self.metric
        results = [point.score for point in (*self.finals, *self.dense)]
        results += [metric.best(point.score for point in self.trail)] if self.trail else []
        low, high = metric.goodness(metric.worst(results)), metric.goodness(metric.best(results))
        lowest = low - 0.25 * (high - low) - 0.05 * metric.span(metric.goodness(high))
        return metric.goodness(max(metric.goodness(metric.worst(())), lowest))

    @property
    def hidden(self) -> int:
        """How many points of the open run lie below what is drawn at first."""
        return sum(self.below(point) for point in self.trail)

    def below(self, point: FrontPoint) -> bool:
        """Whether a point is worse than what is drawn at first."""
        return self.metric.goodness(point.score) < self.metric.goodness(self.floor)

    def height(self, point: FrontPoint) -> float:
        """Where a point is drawn on the y axis: one that is worse than the floor at the bottom edge."""
        return self.metric.shown(self.floor if self.below(point) else point.score)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table."""
        kinds = (("dense", self.dense), ("final", self.finals), ("on the way", self.trail))
        return [
            {
                "what": kind,
                "run": point.run,
                "method": theme.style(point.method).label,
                "bytes": round(point.bytes),
                self.metric.axis: round(self.metric.shown(point.score), 2),
                "split": point.split,
                "size": "estimated" if point.estimated else "of the file",
                "on the front": "" if kind == "on the way" else "no" if point.dominated else "yes",
            }
            for kind, points in kinds
            for point in points
        ]

    @property
    def sentence(self) -> str:
        """What the chart shows, for people who do not see it."""
        named = (*self.dense[:1], *([self.latest] if self.latest else self.finals[-1:]))
        return " ".join([f"{self.metric.title} against size.", *(point.sentence for point in named)])


def front_info(runs: Sequence[FrontRun], opened: str | None = None) -> FrontInfo:
    """Collect the points of all runs; ``opened`` is the run whose points are shown one by one."""
    main = next((run for run in runs if run.run == opened), None)
    finals = [_point(run, run.final, "ends at") for run in runs if _drawable(run.final) and run.final]
    metric = (main or next(iter(runs), FrontRun("", "", ""))).metric
    marked = _mark_dominated(finals, metric)
    trail = [_point(main, p, "was at") for p in _thin(main.points) if _drawable(p)] if main else []
    latest = next((end for end in marked if end.run == opened), trail[-1] if trail else None)
    method = main.method if main else theme.DENSE
    return FrontInfo(tuple(trail), tuple(marked), tuple(_stars(runs, main)), method, latest, metric)


def _drawable(point: PointDict | None) -> bool:
    return drawable(point, AXES["bytes"])


def _point(run: FrontRun, point: PointDict, verb: str) -> FrontPoint:
    ratio = words.ratio(run.baseline["bytes"] / point["bytes"]) if run.baseline else ""
    dense = f", {ratio} smaller than the dense model" if ratio else ""
    estimated = point.get("bytes_kind") == "estimated"
    when = f" after {words.plural(point['step'], run.unit.removesuffix('s'))}" if verb == "was at" else ""
    sentence = (
        f"{theme.style(run.method).label} {run.label} {verb} {words.size(point['bytes'])}{' (estimated)' * estimated} "
        f"with {run.metric.show(point['score'])} {point.get('split', '')} {run.metric.label}{when}{dense}."
    )
    split = str(point.get("split", ""))
    return FrontPoint(run.run, run.method, point["bytes"], point["score"], split, sentence, estimated=estimated)


def _stars(runs: Sequence[FrontRun], main: FrontRun | None) -> list[FrontPoint]:
    """The dense model once per distinct place: the open run's baseline first."""
    ordered = [main, *runs] if main else list(runs)
    stars: dict[tuple[float, float], FrontPoint] = {}
    for run in ordered:
        point = run.baseline
        if point is not None and _drawable(point):
            sentence = (
                f"The dense model takes {words.size(point['bytes'])} with {run.metric.show(point['score'])} "
                f"{point.get('split', '')} {run.metric.label}."
            )
            key = (point["bytes"], round(point["score"], 4))
            split = str(point.get("split", ""))
            stars.setdefault(key, FrontPoint(run.run, theme.DENSE, key[0], point["score"], split, sentence))
    return list(stars.values())


def _thin(points: Sequence[PointDict]) -> list[PointDict]:
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[:-1:stride], *points[-1:]]


def unbeaten(points: Sequence[FrontPoint], metric: Metric) -> tuple[FrontPoint, ...]:
    """The points with no smaller one as good, from small to large."""
    return tuple(points[i] for i in front([(point.bytes, metric.goodness(point.score)) for point in points]))


def _mark_dominated(points: list[FrontPoint], metric: Metric) -> list[FrontPoint]:
    beaten = dominated([(point.bytes, metric.goodness(point.score)) for point in points])
    return [replace(point, dominated=faint) for point, faint in zip(points, beaten, strict=True)]
