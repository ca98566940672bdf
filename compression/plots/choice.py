"""Drawing the front to choose from: the score over a logarithmic cost, beaten runs faint, picked ones ringed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compression.plots import base, target, theme
from compression.plots.base import go
from compression.plots.candidates import CandidatesInfo, Mark
from compression.plots.layered import LayeredLine, drawn_sizes, line_traces, lowest
from compression.plots.legend import entry

PICKED, OTHER = "picked", "the second one"
_FAINT, _BESIDE = 0.45, 0.5  # opacity of what is beaten; and of the gallery's runs beside the user's own


def choice_figure(
    info: CandidatesInfo,
    picked: str = "",
    other: str = "",
    height: int = 520,
    layered: Sequence[LayeredLine] = (),
    aim: target.Target | None = None,
) -> go.Figure:
    """Draw the finished candidates; a click on a run gives its id in ``customdata``. Rings lie under the markers.

    Runs still going are measured on other data, their sizes estimated: they are listed below the chart. ``layered``:
    files whose prefixes are thin lines of points, where the cost is bytes. ``aim``: a target, which a click sets.
    """
    fig = base.figure(height, uirevision=f"choice {info.axis.field}", hovermode="closest", clickmode="event+select")
    fig.update_layout(legend=base.TWO_COLUMNS)
    line = {"color": theme.MUTED, "width": 2, "shape": "hv"}
    front = _columns(info, info.front) | {"customdata": None, "hovertext": None, "hoverinfo": "skip"}
    fig.add_trace(go.Scatter(**front, mode="lines", name="front", showlegend=len(info.front) > 1, line=line))
    for run, name, shape in ((picked, PICKED, "square"), (other, OTHER, "circle")):
        mark = info.mark(run)
        fig.add_trace(_ring(info, None if mark is None or mark.live else mark, name, shape))
    for method in dict.fromkeys(mark.method for mark in info.finished):
        fig.add_traces([entry(theme.style(method)), _finished(info, method)])
    shown = layered if info.axis.field == "bytes" else ()
    floor = info.floor
    if info.best is not None and not info.hidden:  # hidden ones are drawn at the floor, as the bottom edge
        floor = lowest(shown, floor, info.best.score)
    fig.add_traces(line_traces(shown, floor))
    look = theme.style(theme.DENSE)
    stars = _columns(info, info.dense) | {"customdata": [[""] for _ in info.dense]}
    marker = {"color": look.color, "symbol": look.symbol, "size": 17}
    fig.add_trace(go.Scatter(**stars, mode="markers", name=look.label, marker=marker, **base.STEADY))
    _axes(fig, info, floor, drawn_sizes(shown, floor))
    if aim is not None:
        target.draw(fig, aim)
    return fig


def _ring(info: CandidatesInfo, mark: Mark | None, name: str, shape: str) -> go.Scatter:
    place = _columns(info, [mark] if mark else []) | {"hoverinfo": "skip"}
    marker = {"color": theme.MUTED, "symbol": f"{shape}-open", "size": 24, "line": {"width": 2}}
    return go.Scatter(**place, mode="markers", name=name, showlegend=mark is not None, marker=marker, **base.STEADY)


def _finished(info: CandidatesInfo, method: str) -> go.Scatter:
    look = theme.style(method)
    marks = [mark for mark in info.finished if mark.method == method]
    shares = [(_FAINT if mark.beaten else 1) * (_BESIDE if info.beside(mark) else 1) for mark in marks]
    marker = {
        "color": [theme.rgba(look.color, share) for share in shares],
        "symbol": ["triangle-down-open" if info.below(mark) else look.symbol for mark in marks],
        "size": [9 if info.beside(mark) else 13 for mark in marks],
    }
    named = {"name": look.label, "legendgroup": look.label, "showlegend": False}
    spread = _error_bars(info, marks, look)
    return go.Scatter(**_columns(info, marks), mode="markers", marker=marker, **named, **spread, **base.STEADY)


def _error_bars(info: CandidatesInfo, marks: Sequence[Mark], look: theme.Style) -> dict[str, Any]:
    """A standard deviation to each side of runs that are the mean of several seeds."""
    if not any(mark.members for mark in marks):
        return {}
    common = {"type": "data", "color": theme.rgba(look.color, 0.6), "thickness": 1.5, "width": 4}
    costs, scores = zip(*(mark.spread for mark in marks), strict=True)
    return {
        "error_x": {**common, "array": costs},
        "error_y": {**common, "array": [info.metric.scale * score for score in scores]},
    }


def _columns(info: CandidatesInfo, marks: Sequence[Mark]) -> dict[str, Any]:
    return {
        "x": [mark.cost for mark in marks],
        "y": [info.metric.shown(info.floor if info.below(mark) else mark.score) for mark in marks],
        "customdata": [[mark.run] for mark in marks],
        "hovertext": base.tooltips([mark.sentence for mark in marks]),
        "hoverinfo": "text",
    }


def _axes(fig: go.Figure, info: CandidatesInfo, floor: float, sizes: Sequence[int]) -> None:
    drawn = [*info.finished, *info.dense]
    base.log_axis(fig, [*(mark.cost for mark in drawn), *sizes], info.axis.title, info.axis.show, 0.06)
    metric = info.metric
    fig.update_yaxes(title=metric.label, ticksuffix=metric.unit)
    if drawn:
        top = metric.best(mark.score for mark in drawn)
        least = 0.002 * metric.span(top)
        fig.update_yaxes(range=metric.ends(floor, top, 0.08, least))
