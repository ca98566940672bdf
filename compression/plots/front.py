"""Drawing the front of score against size: results only, sizes on a logarithmic axis, the open run among others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go
from compression.plots.front_data import FrontInfo, FrontPoint, unbeaten
from compression.plots.layered import LayeredLine, drawn_sizes, line_traces, lowest
from compression.plots.legend import entry

FAINT, BESIDE = 0.45, 0.5  # opacity of what is beaten; and of the runs beside the one that the page is about


def front_figure(info: FrontInfo, height: int = 460, layered: Sequence[LayeredLine] = ()) -> go.Figure:
    """Draw the front; traces keep their order and number while no run ends, so that nothing jumps.

    ``layered``: files whose prefixes are thin lines of points.
    """
    points = [*info.finals, *info.dense]
    fig = base.figure(height, uirevision="front", hovermode="closest")
    fig.update_layout(legend=base.TWO_COLUMNS)
    fig.add_traces([_finished_front(info), _ring(info)])
    for method in dict.fromkeys(point.method for point in info.finals):
        look = theme.style(method)
        fig.add_traces([entry(look), _finished([p for p in info.finals if p.method == method], look, info)])
    metric = info.metric
    best = metric.best(point.score for point in points) if points else 0.0
    floor = lowest(layered, info.floor, best) if points else info.floor
    fig.add_traces(line_traces(layered, floor) if points else [])
    star = {"color": theme.style(theme.DENSE).color, "symbol": theme.style(theme.DENSE).symbol, "size": 16}
    label = theme.style(theme.DENSE).label
    fig.add_trace(go.Scatter(**_columns(info, info.dense), mode="markers", name=label, marker=star))
    base.log_axis(fig, [*(point.bytes for point in points), *drawn_sizes(layered, floor)], "packed size")
    span = metric.ends(floor, best, 0.06, 0.002 * metric.span(best)) if points else None
    fig.update_yaxes(title=f"test {metric.label}", ticksuffix=metric.unit, range=span)
    return fig


def _finished_front(info: FrontInfo) -> go.Scatter:
    ends = unbeaten(info.finals, info.metric)
    dotted = {"color": theme.MUTED, "width": 1.5, "dash": "dot", "shape": "hv"}
    place = _columns(info, ends) | {"hoverinfo": "skip"}
    named = len(ends) > 1
    return go.Scatter(**place, mode="lines", name="front of all runs", showlegend=named, line=dotted)


def _ring(info: FrontInfo) -> go.Scatter:
    """Around the end of the run that the page is about."""
    color = theme.style(info.main.method).color if info.main else theme.MUTED
    ring = {"color": color, "symbol": "circle-open", "size": 22, "line": {"width": 2}}
    place = _columns(info, [info.main] if info.main else []) | {"hoverinfo": "skip"}
    named = info.main is not None
    return go.Scatter(**place, mode="markers", name="this run", showlegend=named, marker=ring)


def _finished(points: list[FrontPoint], look: theme.Style, info: FrontInfo) -> go.Scatter:
    beside = [info.beside(point) for point in points]
    opacity = [
        (FAINT if point.dominated else 1) * (BESIDE if faint else 1)
        for point, faint in zip(points, beside, strict=True)
    ]
    colors = [theme.rgba(look.color, share) for share in opacity]
    sizes = [8 if faint else 12 for faint in beside]
    marker = {"color": colors, "symbol": look.symbol, "size": sizes}
    place = _columns(info, points)
    return go.Scatter(**place, mode="markers", name=look.label, legendgroup=look.label, showlegend=False, marker=marker)


def _columns(info: FrontInfo, points: Iterable[FrontPoint]) -> dict[str, Any]:
    """Points as Plotly takes them."""
    chosen = list(points)
    return {
        "x": [point.bytes for point in chosen],
        "y": [info.metric.shown(point.score) for point in chosen],
        "customdata": [[point.run] for point in chosen],
        "hovertext": base.tooltips([point.sentence for point in chosen]),
        "hoverinfo": "text",
    }
