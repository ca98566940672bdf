"""A target on the front, so many bytes and such a score: what reaches it, what comes nearest, and a click that sets it.

Plotly reports clicks on points only: a chart on which a target can be set holds a grid of invisible ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compression.plots import base, theme
from compression.plots.base import go
from compression.plots.candidates import CandidatesInfo, Mark
from compression.plots.standing import DEPTH
from compression.tasks import ACCURACY, Metric

COLUMNS, ROWS = 60, 40  # of the grid
POINT = 8  # pixels of a point of the grid
TINT = 0.10


@dataclass(frozen=True)
class Target:
    """At most ``bytes``, and at least as good as ``score``."""

    bytes: float
    score: float
    metric: Metric = ACCURACY

    def reached(self, mark: Mark) -> bool:
        """Whether a run is as small and as good."""
        return mark.cost <= self.bytes and self.metric.goodness(mark.score) >= self.metric.goodness(self.score)

    def distance(self, mark: Mark) -> float:
        """How far a run is off, 0 where it reaches it: halvings of size and tenths of the range of scores together.

        These weigh the same, as in :mod:`compression.plots.standing`.
        """
        larger = max(0.0, math.log2(mark.cost / self.bytes))
        worse = max(0.0, self.metric.goodness(self.score) - self.metric.goodness(mark.score))
        return math.hypot(larger, worse / (DEPTH * self.metric.span(self.score)))


def nearest(marks: Sequence[Mark], aim: Target) -> Mark | None:
    """The run that is least off; of those that reach the target the smallest."""
    return min(marks, key=lambda mark: (aim.distance(mark), mark.cost), default=None)


def usual(info: CandidatesInfo) -> Target | None:
    """Where a target begins: at the size of the smallest run on the front, and the score of the best."""
    if not info.front:
        return None
    return Target(info.front[0].cost, info.front[-1].score, info.metric)


def draw(fig: go.Figure, aim: Target) -> None:
    """Shade what reaches the target, and lay the grid that takes clicks below everything else."""
    (left, right), (low, high) = fig.layout.xaxis.range, fig.layout.yaxis.range
    xs = [10 ** (left + (right - left) * (column + 0.5) / COLUMNS) for column in range(COLUMNS)]
    ys = [low + (high - low) * (row + 0.5) / ROWS for row in range(ROWS)]
    places = [(x, y) for x in xs for y in ys]
    grid = base.scatter(
        [x for x, _ in places],
        [y for _, y in places],
        marker={"size": POINT, "opacity": 0},
        hoverinfo="none",
        showlegend=False,
        **base.STEADY,
    )
    fig.add_trace(grid)
    fig.data = (fig.data[-1], *fig.data[:-1])
    score, best = aim.metric.shown(aim.score), high if aim.metric.better == "higher" else low
    line = {"color": theme.HIGHLIGHT, "width": 1, "dash": "dash"}
    fig.add_shape(
        type="rect", x0=10**left, x1=aim.bytes, y0=score, y1=best, line=line,
        fillcolor=theme.rgba(theme.HIGHLIGHT, TINT), layer="below",
    )  # fmt: skip
    cross = {"symbol": "x-thin", "size": 14, "line": {"color": theme.HIGHLIGHT, "width": 2.5}}
    fig.add_trace(base.scatter([aim.bytes], [score], marker=cross, name="target", hoverinfo="skip", **base.STEADY))
