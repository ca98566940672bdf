"""What the front of score against size shows: the dense model and the finished runs, as files on test data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from compression.front import dominated, front
from compression.plots import theme, words
from compression.plots.axes import AXES, PointDict, drawable
from compression.tasks import ACCURACY, Metric


@dataclass(frozen=True)
class FrontRun:
    """What the front needs of one run: its points so far, and baseline and final once they are known.

    ``unit`` is what its steps are: ``steps`` of training, or the ``layers`` a method goes through; ``metric`` that of
    its task; ``shipped``: a run of the gallery; ``recipe`` is the same for runs that differ in their seed alone.
    """

    run: str
    label: str
    method: str
    points: tuple[PointDict, ...] = ()
    baseline: PointDict | None = None
    final: PointDict | None = None
    unit: str = "steps"
    metric: Metric = ACCURACY
    shipped: bool = False
    recipe: str = ""
    seed: int = 0


@dataclass(frozen=True)
class FrontPoint:
    """One marker: where it is, whose it is, and the sentence that explains it; ``shipped``: of the gallery's runs."""

    run: str
    method: str
    bytes: float
    score: float
    split: str
    sentence: str
    dominated: bool = False
    estimated: bool = False
    shipped: bool = False

    def row(self, kind: str, metric: Metric) -> dict[str, Any]:
        """The point as a row of its chart's table."""
        return {
            "what": kind,
            "run": self.run,
            "method": theme.style(self.method).label,
            "bytes": round(self.bytes),
            metric.axis: round(metric.shown(self.score), 2),
            "split": self.split,
            "size": "estimated" if self.estimated else "of the file",
        }


@dataclass(frozen=True)
class FrontInfo:
    """Results only, on test data and as files: ``finals``, one for each finished run; ``dense``: the stars.

    ``opened`` are the runs that the page is about; the others are drawn faint beside them.
    """

    finals: tuple[FrontPoint, ...]
    dense: tuple[FrontPoint, ...]
    metric: Metric = ACCURACY
    opened: tuple[str, ...] = ()

    @property
    def main(self) -> FrontPoint | None:
        """The end of the one run that the page is about; ``None`` before, and of several."""
        return next((p for p in self.finals if p.run in self.opened), None) if len(self.opened) == 1 else None

    def beside(self, point: FrontPoint) -> bool:
        """Whether a point is drawn faint, beside those that the page is about."""
        if self.opened:
            return point.run not in self.opened
        return point.shipped and not all(each.shipped for each in self.finals)

    @property
    def floor(self) -> float:
        """The worst score drawn, some room below the worst result."""
        scores = [point.score for point in (*self.finals, *self.dense)]
        metric = self.metric
        low, high = metric.goodness(metric.worst(scores)), metric.goodness(metric.best(scores))
        lowest = low - 0.25 * (high - low) - 0.002 * metric.span(metric.goodness(high))
        return metric.goodness(max(metric.goodness(metric.worst(())), lowest))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table."""
        kinds = (("dense", self.dense), ("final", self.finals))
        return [
            point.row(kind, self.metric) | {"on the front": "no" if point.dominated else "yes"}
            for kind, points in kinds
            for point in points
        ]

    @property
    def sentence(self) -> str:
        """What the chart shows, for people who do not see it."""
        named = (*self.dense[:1], *([self.main] if self.main else self.finals[-1:]))
        return " ".join([f"{self.metric.title} against size.", *(point.sentence for point in named)])


def front_info(runs: Sequence[FrontRun], opened: Sequence[str] = ()) -> FrontInfo:
    """Collect the results of all runs; ``opened`` are those that the page is about."""
    main = next((run for run in runs if run.run in opened), None)
    finals = [run_point(run, run.final, "ends at") for run in runs if _drawable(run.final) and run.final]
    metric = (main or next(iter(runs), FrontRun("", "", ""))).metric
    marked = _mark_dominated(finals, metric)
    return FrontInfo(tuple(marked), tuple(_stars(runs, main)), metric, tuple(opened))


def _drawable(point: PointDict | None) -> bool:
    return drawable(point, AXES["bytes"])


def run_point(run: FrontRun, point: PointDict, verb: str) -> FrontPoint:
    """A point of a run with its sentence; ``verb``: what the run does there, ``ends at`` or ``was at``."""
    ratio = words.ratio(run.baseline["bytes"] / point["bytes"]) if run.baseline else ""
    dense = f", {ratio} smaller than the dense model" if ratio else ""
    estimated = point.get("bytes_kind") == "estimated"
    when = f" after {words.plural(point['step'], run.unit.removesuffix('s'))}" if verb == "was at" else ""
    sentence = (
        f"{theme.style(run.method).label} {run.label} {verb} {words.size(point['bytes'])}{' (estimated)' * estimated} "
        f"with {run.metric.show(point['score'])} {point.get('split', '')} {run.metric.label}{when}{dense}."
    )
    split = str(point.get("split", ""))
    place = (run.run, run.method, point["bytes"], point["score"])
    return FrontPoint(*place, split, sentence, estimated=estimated, shipped=run.shipped)


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


def unbeaten(points: Sequence[FrontPoint], metric: Metric) -> tuple[FrontPoint, ...]:
    """The points with no smaller one as good, from small to large."""
    return tuple(points[i] for i in front([(point.bytes, metric.goodness(point.score)) for point in points]))


def _mark_dominated(points: list[FrontPoint], metric: Metric) -> list[FrontPoint]:
    beaten = dominated([(point.bytes, metric.goodness(point.score)) for point in points])
    return [replace(point, dominated=faint) for point, faint in zip(points, beaten, strict=True)]
