"""The way of one run: score against size at each measured point, on validation data and with estimated sizes.

These are no results, and are never drawn on the axes of results (:mod:`compression.plots.front`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.axes import AXES, PointDict, drawable
from compression.plots.base import go
from compression.plots.front_data import FrontPoint, FrontRun, run_point, unbeaten
from compression.tasks import ACCURACY, Metric

MOST_POINTS = 2000
DEPTH = 0.15  # of the range of scores, from the best point down


@dataclass(frozen=True)
class WayInfo:
    """``trail``: the measured points of a run of ``method`` in the order of its steps.

    ``target``: the score that a search must keep, drawn as a line.
    """

    trail: tuple[FrontPoint, ...]
    method: str
    metric: Metric = ACCURACY
    target: float | None = None

    @property
    def front(self) -> tuple[FrontPoint, ...]:
        """The points that no other of the run beats, from small to large."""
        return unbeaten(self.trail, self.metric)

    @property
    def floor(self) -> float:
        """The worst score drawn in its place: what is worse by a share of the range is drawn at the bottom edge."""
        metric, scores = self.metric, [point.score for point in self.trail]
        low, high = metric.goodness(metric.worst(scores)), metric.goodness(metric.best(scores))
        return metric.goodness(max(low, high - DEPTH * metric.span(metric.goodness(high))))

    @property
    def hidden(self) -> int:
        """How many points lie below what is drawn in its place."""
        return sum(self.below(point) for point in self.trail)

    def below(self, point: FrontPoint) -> bool:
        """Whether a point is worse than what is drawn in its place."""
        return self.metric.goodness(point.score) < self.metric.goodness(self.floor)

    def height(self, point: FrontPoint) -> float:
        """Where a point is drawn on the y axis."""
        return self.metric.shown(self.floor if self.below(point) else point.score)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table."""
        return [point.row("on the way", self.metric) for point in self.trail]

    @property
    def sentence(self) -> str:
        """What the chart shows, for people who do not see it."""
        now = self.trail[-1].sentence if self.trail else "No point has been measured yet."
        return f"{self.metric.title} on validation data against estimated size. {now}"


def way_info(run: FrontRun, target: float | None = None) -> WayInfo:
    """The points of a run that can be drawn, thinned where they are many."""
    trail = [run_point(run, point, "was at") for point in _thin(run.points) if drawable(point, AXES["bytes"])]
    return WayInfo(tuple(trail), run.method, run.metric, target)


def way_figure(info: WayInfo, height: int = 380) -> go.Figure:
    """Draw the way; the traces keep their order and number while a run grows, so that nothing jumps."""
    fig = base.figure(height, uirevision="way", hovermode="closest")
    look, metric = theme.style(info.method), info.metric
    symbols = [f"{'triangle-down' if info.below(point) else look.symbol}-open" for point in info.trail]
    fig.add_trace(
        go.Scatter(
            **_columns(info, info.trail),
            mode="lines+markers",
            name="measured on the way",
            line={"color": theme.rgba(look.color, 0.25), "width": 1},
            marker={"color": theme.rgba(look.color, 0.7), "symbol": symbols, "size": 7},
        )
    )
    bold = {"color": look.color, "width": 2, "shape": "hv"}
    place = _columns(info, info.front) | {"hoverinfo": "skip"}
    fig.add_trace(go.Scatter(**place, mode="lines", name="best so far at each size", line=bold))
    ring = {"color": look.color, "symbol": f"{look.symbol}-open", "size": 15, "line": {"width": 2.5}}
    last = _columns(info, info.trail[-1:])
    fig.add_trace(go.Scatter(**last, mode="markers", name="last", showlegend=False, marker=ring))
    if not info.trail:
        base.empty(fig, "The first point appears when<br>the model is prepared and measured.")
    base.log_axis(fig, [point.bytes for point in info.trail], "estimated size")
    best = metric.best(point.score for point in info.trail) if info.trail else None
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


def _columns(info: WayInfo, points: Iterable[FrontPoint]) -> dict[str, Any]:
    chosen = list(points)
    return {
        "x": [point.bytes for point in chosen],
        "y": [info.height(point) for point in chosen],
        "hovertext": base.tooltips([point.sentence for point in chosen]),
        "hoverinfo": "text",
    }


def _thin(points: Sequence[PointDict]) -> list[PointDict]:
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[:-1:stride], *points[-1:]]
