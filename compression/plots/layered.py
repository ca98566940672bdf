"""Prefixes of one layered file: the score against the bytes that are read, and the thin line of them on a front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go
from compression.tasks import Metric

NEAR = 0.1
"""Of the range of scores below the best finished run: prefixes that are worse are not drawn on fronts."""


@dataclass(frozen=True)
class LayeredLine:
    """One file: ``title`` names its run, ``places`` are (bytes, score) of its prefixes, the smallest first.

    Not ``whole``: files of a run whose weights are read at several bit-widths, one for each.
    """

    run: str
    method: str
    title: str
    places: tuple[tuple[int, float], ...]
    metric: Metric
    whole: bool = True

    @property
    def name(self) -> str:
        """What a legend calls it."""
        return "one layered file" if self.whole else "one run at several bits"

    @property
    def sentences(self) -> list[str]:
        """What each point is."""
        if not self.whole:
            return [
                f"{self.title}, read at fewer bits: {words.size(size)}, "
                f"{self.metric.show(score)} test {self.metric.label}."
                for size, score in self.places
            ]
        whole = self.places[-1][0]
        return [
            f"{self.title}: the first {words.size(size)} of one layered file of {words.size(whole)}, "
            f"{self.metric.show(score)} test {self.metric.label}."
            for size, score in self.places
        ]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its prefixes as rows of a front's table."""
        what = "prefix of a layered file" if self.whole else "the same run at other bits"
        return [
            {
                "what": what, "run": self.run, "method": theme.style(self.method).label,
                "bytes": size, self.metric.axis: round(self.metric.shown(score), 2), "split": "test",
                "size": "of the file",
            }
            for size, score in self.places
        ]  # fmt: skip


def lowest(lines: Sequence[LayeredLine], floor: float, best: float) -> float:
    """The worst score drawn on a front whose other points reach from ``best`` to ``floor``.

    Prefixes below the floor lower it as far as they are near the best.
    """
    for line in lines:
        metric = line.metric
        near = metric.goodness(best) - NEAR * metric.span(best)
        floor = metric.worst([floor, *(score for _, score in line.places if metric.goodness(score) >= near)])
    return floor


def line_trace(line: LayeredLine, floor: float | None = None) -> go.Scatter:
    """The thin line of a file's prefixes; those with a score below ``floor`` are left out."""
    metric = line.metric
    drawn = [
        (size, metric.shown(score), text)
        for (size, score), text in zip(line.places, line.sentences, strict=True)
        if floor is None or metric.goodness(score) >= metric.goodness(floor)
    ]
    color = theme.style(line.method).color
    return go.Scatter(
        x=[size for size, _, _ in drawn],
        y=[shown for _, shown, _ in drawn],
        customdata=[[line.run] for _ in drawn],
        hovertext=base.tooltips([text for _, _, text in drawn]),
        hoverinfo="text",
        mode="lines+markers",
        name=line.name,
        legendgroup=line.name,
        line={"color": theme.rgba(color, 0.8), "width": 1.2},
        marker={"color": color, "size": 5, "symbol": "circle"},
        **base.STEADY,
    )


def drawn_sizes(lines: Sequence[LayeredLine], floor: float) -> list[int]:
    """The bytes of the prefixes that are drawn."""
    return [
        size
        for line in lines
        for size, score in line.places
        if line.metric.goodness(score) >= line.metric.goodness(floor)
    ]


def line_traces(lines: Sequence[LayeredLine], floor: float | None = None) -> list[go.Scatter]:
    """The lines of several files, one entry of each kind in the legend."""
    traces = [line_trace(line, floor) for line in lines]
    kinds: set[str] = set()
    for trace in traces:
        trace.showlegend = trace.name not in kinds
        kinds.add(trace.name)
    return traces


def layered_figure(line: LayeredLine, chosen: int, packed: tuple[int, float], height: int = 320) -> go.Figure:
    """The prefixes of one file, the ``chosen`` one ringed, beside the run's own packed file (bytes, score)."""
    fig = base.figure(height, hovermode="closest", uirevision="layered")
    fig.update_layout(legend=base.TWO_COLUMNS)
    metric, look = line.metric, theme.style(line.method)
    fig.add_trace(line_trace(line))
    size, score = line.places[chosen]
    ring: dict[str, Any] = {"color": theme.MUTED, "symbol": "circle-open", "size": 20, "line": {"width": 2}}
    fig.add_trace(base.scatter([size], [metric.shown(score)], name="what is read", marker=ring))
    own = f"{line.title}: its packed file, {words.size(packed[0])}, {metric.show(packed[1])}."
    marker = {"color": look.color, "symbol": look.symbol, "size": 12}
    fig.add_trace(
        base.scatter([packed[0]], [metric.shown(packed[1])], name="packed file", marker=marker, hovertext=[own])
    )
    base.log_axis(fig, [*(size for size, _ in line.places), packed[0]], "bytes that are read")
    fig.update_yaxes(title=metric.label, ticksuffix=metric.unit)
    return fig
