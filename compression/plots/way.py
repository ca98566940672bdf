"""The way of runs: score against size at each measured point, on validation data and with estimated sizes.

These are no results, and are never drawn on the axes of results (:mod:`compression.plots.front`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.axes import AXES, PointDict, drawable
from compression.plots.base import go
from compression.plots.front_data import FrontPoint, FrontRun, run_point, unbeaten
from compression.tasks import ACCURACY, Metric

MOST_POINTS, FEWEST_POINTS = 2000, 20  # of all runs together; of one
DEPTH = 0.15  # of the range of scores, from the best point down


@dataclass(frozen=True)
class WayInfo:
    """``trails``: the measured points of each run in the order of its steps, ``methods`` those of the runs.

    ``target``: the score that a search must keep, drawn as a line.
    """

    trails: tuple[tuple[FrontPoint, ...], ...]
    methods: tuple[str, ...]
    metric: Metric = ACCURACY
    target: float | None = None

    @property
    def points(self) -> tuple[FrontPoint, ...]:
        """The points of all runs."""
        return tuple(itertools.chain(*self.trails))

    def trails_of(self, method: str) -> tuple[tuple[FrontPoint, ...], ...]:
        """The trails of one method's runs."""
        return tuple(trail for trail in self.trails if trail and trail[0].method == method)

    def front(self, method: str) -> tuple[FrontPoint, ...]:
        """The points of a method that no other of its runs beats, from small to large."""
        return unbeaten([point for trail in self.trails_of(method) for point in trail], self.metric)

    @property
    def floor(self) -> float:
        """The worst score drawn in its place: what is worse by a share of the range is drawn at the bottom edge."""
        metric, scores = self.metric, [point.score for point in self.points]
        low, high = metric.goodness(metric.worst(scores)), metric.goodness(metric.best(scores))
        return metric.goodness(max(low, high - DEPTH * metric.span(metric.goodness(high))))

    @property
    def hidden(self) -> int:
        """How many points lie below what is drawn in its place."""
        return sum(map(self.below, self.points))

    def below(self, point: FrontPoint) -> bool:
        """Whether a point is worse than what is drawn in its place."""
        return self.metric.goodness(point.score) < self.metric.goodness(self.floor)

    def height(self, point: FrontPoint) -> float:
        """Where a point is drawn on the y axis."""
        return self.metric.shown(self.floor if self.below(point) else point.score)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table."""
        return [point.row("on the way", self.metric) for point in self.points]

    @property
    def sentence(self) -> str:
        """What the chart shows, for people who do not see it."""
        last = [trail[-1].sentence for trail in self.trails if trail]
        now = " ".join(last) or "No point has been measured yet."
        return f"{self.metric.title} on validation data against estimated size. {now}"


def way_info(runs: Sequence[FrontRun], target: float | None = None) -> WayInfo:
    """The points of runs that can be drawn, thinned where they are many."""
    most = max(FEWEST_POINTS, MOST_POINTS // max(1, len(runs)))
    trails = [
        tuple(run_point(run, point, "was at") for point in _thin(run.points, most) if drawable(point, AXES["bytes"]))
        for run in runs
    ]
    methods = tuple(dict.fromkeys(run.method for run in runs))
    return WayInfo(tuple(trails), methods, runs[0].metric if runs else ACCURACY, target)


def way_figure(info: WayInfo, height: int = 380) -> go.Figure:
    """Draw the way; the traces keep their order and number while runs grow, so that nothing jumps.

    Each method has three traces: the points of its runs, the best of them at each size, and where its runs are.
    """
    fig = base.figure(height, uirevision="way", hovermode="closest")
    for method in info.methods:
        fig.add_traces(_of_method(info, method))
    points, metric = info.points, info.metric
    if not points:
        base.empty(fig, "The first point appears when<br>the model is prepared and measured.")
    base.log_axis(fig, [point.bytes for point in points], "estimated size")
    best = metric.best(point.score for point in points) if points else None
    if info.target is not None:
        fig.add_hline(
            y=metric.shown(info.target),
            line={"color": theme.ACCENT, "width": 1, "dash": "dash"},
            annotation={"text": f"looked for: {metric.show(info.target)}", "font": {"size": 10, "color": theme.ACCENT}},
            annotation_position="top right",
        )
    span = None if best is None else metric.ends(info.floor, best, 0.06, 0.002 * metric.span(best))
    fig.update_yaxes(title=f"validation {metric.label}", ticksuffix=metric.unit, range=span)
    return fig


def _of_method(info: WayInfo, method: str) -> list[go.Scatter]:
    look, trails, alone = theme.style(method), info.trails_of(method), len(info.methods) == 1
    faint = {"color": theme.rgba(look.color, 0.25), "width": 1}
    joined = list(itertools.chain.from_iterable((*trail, None) for trail in trails))[:-1]  # a gap between two runs
    symbols = [f"{'triangle-down' if point and info.below(point) else look.symbol}-open" for point in joined]
    marker = {"color": theme.rgba(look.color, 0.7), "symbol": symbols, "size": 7 if len(trails) < 2 else 5}
    named = {"name": "measured on the way" if alone else look.label, "showlegend": alone}
    trail = go.Scatter(**_columns(info, joined), mode="lines+markers", line=faint, marker=marker, **named)
    bold = {"color": look.color, "width": 2, "shape": "hv"}
    place = _columns(info, info.front(method)) | {"hoverinfo": "skip"}
    best = go.Scatter(**place, mode="lines", name="best so far at each size" if alone else look.label, line=bold)
    ring = {"color": look.color, "symbol": f"{look.symbol}-open", "size": 15, "line": {"width": 2.5}}
    ends = _columns(info, [trail[-1] for trail in trails])
    return [trail, best, go.Scatter(**ends, mode="markers", name="last", showlegend=False, marker=ring)]


def _columns(info: WayInfo, points: Iterable[FrontPoint | None]) -> dict[str, Any]:
    """Points as Plotly takes them; ``None`` is a gap."""
    chosen = list(points)
    return {
        "x": [point and point.bytes for point in chosen],
        "y": [point and info.height(point) for point in chosen],
        "hovertext": base.tooltips([point.sentence if point else "" for point in chosen]),
        "hoverinfo": "text",
    }


def _thin(points: Sequence[PointDict], most: int) -> list[PointDict]:
    stride = max(1, math.ceil(len(points) / most))
    return [*points[:-1:stride], *points[-1:]]
