"""The score of a method that learns from a few inputs, by their number: a mark for each draw, a line of the means."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go
from compression.tasks import Metric


@dataclass(frozen=True)
class CalibrationInfo:
    """``scores``: number of inputs → the score of each draw; ``first``: without looking at any input."""

    scores: Mapping[int, tuple[float, ...]]
    first: float
    metric: Metric

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table."""
        return [
            {
                "inputs": count,
                f"mean {self.metric.axis}": round(self.metric.shown(statistics.fmean(scores)), 2),
                "lowest": round(self.metric.shown(min(scores)), 2),
                "highest": round(self.metric.shown(max(scores)), 2),
            }
            for count, scores in self.scores.items()
        ]

    @property
    def enough(self) -> int:
        """The smallest number of inputs whose mean is within the spread of the draws at the largest number."""
        last = list(self.scores.values())[-1]
        spread, best = max(last) - min(last), statistics.fmean(last)
        return next(
            count
            for count, scores in self.scores.items()
            if self.metric.shown(abs(statistics.fmean(scores) - best)) <= self.metric.shown(spread)
        )


def calibration_info(result: Mapping[str, Any]) -> CalibrationInfo:
    """From the study's result."""
    counts = sorted({row["count"] for row in result["rows"]})
    scores = {count: tuple(row["score"] for row in result["rows"] if row["count"] == count) for count in counts}
    return CalibrationInfo(scores, result["first"], Metric.from_result(result))


def calibration_figure(info: CalibrationInfo, method: str) -> go.Figure:
    """Scores over the number of inputs, logarithmic; dashed: rounding that looks at no input."""
    fig = base.figure(300, uirevision="calibration", hovermode="closest")
    look, counts = theme.style(method), list(info.scores)
    pairs = [(count, info.metric.shown(score)) for count, scores in info.scores.items() for score in scores]
    fig.add_trace(
        base.scatter(
            [count for count, _ in pairs],
            [score for _, score in pairs],
            name="one draw",
            marker={"color": look.color, "symbol": "circle-open", "size": 9, "line": {"width": 2}},
            hovertemplate=f"%{{y:.2f}}{info.metric.unit} with %{{x}} inputs<extra></extra>",
        )
    )
    means = [info.metric.shown(statistics.fmean(scores)) for scores in info.scores.values()]
    hover = f"mean %{{y:.2f}}{info.metric.unit} with %{{x}} inputs<extra></extra>"
    line = {"color": look.color, "width": 2}
    fig.add_trace(base.scatter(counts, means, "lines", name="mean of the draws", line=line, hovertemplate=hover))
    fig.add_hline(y=info.metric.shown(info.first), line={"color": theme.MUTED, "width": 1, "dash": "dash"})
    fig.update_xaxes(
        type="log", title="inputs, logarithmic", tickvals=counts, ticktext=[words.count(c) for c in counts]
    )
    fig.update_yaxes(title=info.metric.label, ticksuffix=info.metric.unit)
    return fig
