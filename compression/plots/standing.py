"""Who leads a race: the runs of each method in one number, on results; and how that number grew, on the way.

The number is the area between a method's front and a reference, the dense model's size and a score a tenth of the range
below the dense model's, with sizes by their base-2 logarithm, divided by that tenth. A model of half the size that is
as good as the dense one is worth 1, of a quarter 2; one that is as bad as the reference is worth nothing.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from compression.front import Place, front, hypervolume
from compression.plots import base, seeds, theme
from compression.plots.axes import AXES, PointDict, drawable
from compression.plots.base import go
from compression.plots.front_data import FrontRun
from compression.tasks import Metric

DEPTH = 0.1  # of the range of scores: how far below the dense model the reference lies
AREA = "halvings"


@dataclass(frozen=True)
class Standing:
    """One method of a race.

    ``area``: in halvings of size without loss (see above), seeds averaged; ``finals``: the final points of its finished
    runs; ``runs``: how many it has; ``seconds``: what they took so far.
    """

    method: str
    area: float
    finals: tuple[PointDict, ...]
    runs: int
    seconds: float

    def mean(self, field: str) -> float | None:
        """The mean of a figure of the finished runs."""
        return statistics.fmean(point[field] for point in self.finals) if self.finals else None


def standings(runs: Sequence[FrontRun]) -> list[Standing]:
    """The methods of a race, the one that leads first; those without a finished run come last."""
    dense = _dense(runs)
    rows = []
    for method, own in _by_method(runs).items():
        finals = [run.final for run in own if run.final is not None and drawable(run.final, AXES["bytes"])]
        area = halvings(_means(own), dense, own[0].metric) if dense is not None else 0.0
        rows.append(Standing(method, area, tuple(finals), len(own), sum(map(_seconds, own))))
    return sorted(rows, key=lambda row: (-bool(row.finals), -row.area))


def halvings(points: Iterable[PointDict], dense: PointDict, metric: Metric) -> float:
    """How many halvings of size without loss some points are worth together, against the dense model."""
    return _halvings([_place(point, metric) for point in points], dense, metric)


def _halvings(places: Sequence[Place], dense: PointDict, metric: Metric) -> float:
    cost, good = _place(dense, metric)
    depth = DEPTH * metric.span(dense["score"])
    return hypervolume(places, (cost, good - depth)) / depth


def rows(listed: Sequence[Standing], metric: Metric) -> list[dict[str, Any]]:
    """The board as rows of numbers; means are of finished runs."""

    def spread(row: Standing) -> float | None:
        scores = [metric.shown(point["score"]) for point in row.finals]
        return round(statistics.stdev(scores), metric.decimals + 1) if len(scores) > 1 else None

    result = []
    for place, row in enumerate(listed, 1):
        score, bytes_, macs, bops = (row.mean(field) for field in ("score", "bytes", "macs", "rel_bops"))
        result.append(
            {
                "rank": place if row.finals else None,
                "method": theme.style(row.method).label,
                "finished": f"{len(row.finals)} of {row.runs}",
                AREA: round(row.area, 2) if row.finals else None,
                f"test {metric.axis}": None if score is None else round(metric.shown(score), metric.decimals + 1),
                "±": spread(row),
                "bytes": None if bytes_ is None else round(bytes_),
                "MACs": None if macs is None else round(macs),
                "BOPs %": None if bops is None else 100 * bops,
                "seconds": round(row.seconds, 1),
            }
        )
    return result


@dataclass(frozen=True)
class Growth:
    """How the number of one method and seed grew: ``seconds`` worked by its runs, and the ``area`` by then."""

    method: str
    seed: int
    seconds: tuple[float, ...]
    area: tuple[float, ...]


def growths(runs: Sequence[FrontRun]) -> list[Growth]:
    """For each method and seed the number over time, from the points on the way (validation data, estimated sizes)."""
    dense = _dense(runs)
    if dense is None:
        return []
    lines = []
    for method, own in _by_method(runs).items():
        of_seed: dict[int, list[FrontRun]] = defaultdict(list)
        for run in own:
            of_seed[run.seed].append(run)
        lines += [_growth(method, seed, each, dense) for seed, each in of_seed.items()]
    return [line for line in lines if line.seconds]


def _growth(method: str, seed: int, runs: Sequence[FrontRun], dense: PointDict) -> Growth:
    """One run after the other, as if each had waited for the one before."""
    reached: list[Place] = []
    seconds, area, offset = [], [], 0.0
    for run in runs:
        usable = [point for point in run.points if drawable(point, AXES["bytes"])]
        for point, since in zip(usable, _worked([run.baseline or usable[0], *usable]) if usable else (), strict=True):
            reached.append(_place(point, run.metric))
            reached = [reached[index] for index in front(reached)]  # few, however many points there are
            seconds.append(offset + since)
            area.append(_halvings(reached, dense, run.metric))
        offset += _seconds(run)
    return Growth(method, seed, tuple(seconds), tuple(area))


def growth_figure(lines: Sequence[Growth], height: int = 300) -> go.Figure:
    """The number over time: a line for each seed, in the method's colour."""
    fig = base.figure(height, uirevision="growth", hovermode="closest")
    for method in dict.fromkeys(line.method for line in lines):
        look, own = theme.style(method), [line for line in lines if line.method == method]
        xs: list[float | None] = []
        ys: list[float | None] = []
        texts: list[str] = []
        for line in own:
            xs += [*line.seconds, None]
            ys += [*line.area, None]
            seed = f", seed {line.seed}" if len(own) > 1 else ""
            texts += [
                *(f"{look.label}{seed}: {area:.2f} halvings without loss after {seconds:.0f} s"
                  for seconds, area in zip(line.seconds, line.area, strict=True)),
                "",
            ]  # fmt: skip
        stairs = {"color": look.color, "width": 2, "shape": "hv"}
        marker = {"symbol": look.symbol, "size": 6}
        trace = {"name": look.label, "line": stairs, "marker": marker, "hovertext": texts, "showlegend": True}
        fig.add_trace(base.scatter(xs, ys, "lines+markers", **trace))
    if not lines:
        base.empty(fig, "The first point appears when<br>the model is prepared and measured.")
    fig.update_xaxes(title="seconds of computing", rangemode="tozero")
    fig.update_yaxes(title=AREA, rangemode="tozero")
    return fig


def growth_rows(lines: Sequence[Growth]) -> list[dict[str, Any]]:
    """The chart as a table."""
    return [
        {"method": theme.style(line.method).label, "seed": line.seed, "seconds": round(second, 1), AREA: round(area, 3)}
        for line in lines
        for second, area in zip(line.seconds, line.area, strict=True)
    ]


def _by_method(runs: Sequence[FrontRun]) -> Mapping[str, list[FrontRun]]:
    result: dict[str, list[FrontRun]] = defaultdict(list)
    for run in runs:
        result[run.method].append(run)
    return result


def _dense(runs: Sequence[FrontRun]) -> PointDict | None:
    """Where all runs of a race start."""
    return next((run.baseline for run in runs if run.baseline and drawable(run.baseline, AXES["bytes"])), None)


def _means(runs: Sequence[FrontRun]) -> list[PointDict]:
    """One final point for each recipe: the mean over its seeds."""
    groups: dict[str, list[PointDict]] = defaultdict(list)
    for run in runs:
        if run.final is not None and drawable(run.final, AXES["bytes"]):
            groups[run.recipe or run.run].append(run.final)
    return [seeds.mean(points) for points in groups.values()]


def _place(point: PointDict, metric: Metric) -> Place:
    return math.log2(point["bytes"]), metric.goodness(point["score"])


def _worked(points: Sequence[PointDict]) -> list[float]:
    """Seconds worked from the first point to each later one, pauses between attempts left out."""
    worked, result = 0.0, []
    for before, after in pairwise(points):
        if before.get("attempt", 1) == after.get("attempt", 1):
            worked += max(0.0, float(after.get("t", 0.0)) - float(before.get("t", 0.0)))
        result.append(worked)
    return result


def _seconds(run: FrontRun) -> float:
    """Seconds worked from the dense model's measurement to the last point."""
    ends = [point for point in (run.baseline, *run.points, run.final) if point is not None]
    return _worked(ends)[-1] if len(ends) > 1 else 0.0
