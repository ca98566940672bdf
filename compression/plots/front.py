"""Drawing the front of score against size: sizes on a logarithmic axis, the open run growing, others around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go
from compression.plots.front_data import FrontInfo, FrontPoint, unbeaten
from compression.plots.layered import LayeredLine, drawn_sizes, line_traces, lowest

SAME_MODEL = "same model: on test data, as a file"


def front_figure(info: FrontInfo, height: int = 460, layered: Sequence[LayeredLine] = ()) -> go.Figure:
    """Draw the front; traces keep their order and number while a run grows, so that nothing jumps.

    ``layered``: files whose prefixes are thin lines of points.
    """
    points = [*info.trail, *info.finals, *info.dense]
    fig = base.figure(height, uirevision="front", hovermode="closest")
    fig.update_layout(legend=base.TWO_COLUMNS)
    look, dense = theme.style(info.method), theme.style(theme.DENSE)
    fig.add_traces([*_trail(info, look), _latest(info, look), _arrow(info), _finished_front(info)])
    for method in dict.fromkeys(point.method for point in info.finals):
        fig.add_trace(_finished(info, [point for point in info.finals if point.method == method], method))
    results = [point.score for point in (*info.finals, *info.dense)]
    floor = lowest(layered, info.floor, info.metric.best(results)) if results and not info.hidden else info.floor
    fig.add_traces(line_traces(layered, floor) if points else [])
    star = {"color": dense.color, "symbol": dense.symbol, "size": 16}
    fig.add_trace(go.Scatter(**_columns(info, info.dense), mode="markers", name=dense.label, marker=star))
    base.log_axis(fig, [*(point.bytes for point in points), *drawn_sizes(layered, floor)], "size of the weights")
    metric = info.metric
    span = metric.ends(floor, metric.best(point.score for point in points), 0.06) if points else None
    fig.update_yaxes(title=metric.label, ticksuffix=metric.unit, range=span)
    return fig


def _trail(info: FrontInfo, look: theme.Style) -> list[go.Scatter]:
    """The open run: its way as open dots on a thin line, and the front it has reached so far as a bold one.

    Once it has ended, only the way is drawn, fainter still.
    """
    symbols = [f"{look.symbol if not info.below(point) else 'triangle-down'}-open" for point in info.trail]
    line, dots = (0.1, 0.3) if info.ended else (0.2, 0.6)
    way = go.Scatter(
        **_columns(info, info.trail),
        mode="lines+markers",
        name="way (validation)",
        showlegend=bool(info.trail),
        line={"color": theme.rgba(look.color, line), "width": 1},
        marker={"color": theme.rgba(look.color, dots), "symbol": symbols, "size": 7},
    )
    bold = {"color": look.color, "width": 2.5, "shape": "hv"}
    return [way, _line(info, info.own_front, "its front so far", bool(info.own_front), bold)]


def _latest(info: FrontInfo, look: theme.Style) -> go.Scatter:
    marker = {"color": look.color, "symbol": f"{look.symbol}-open", "size": 15, "line": {"width": 2.5}}
    place = _columns(info, [info.latest] if info.latest else [])
    return go.Scatter(**place, mode="markers", name="now", showlegend=False, marker=marker)


def _arrow(info: FrontInfo) -> go.Scatter:
    """From the last point on the way to the end: the two differ in what they are measured on."""
    sizes = [point.bytes for point in (*info.finals, *info.dense)]
    at_left = info.ended is not None and info.ended.bytes**2 < min(sizes) * max(sizes)  # of the middle of a log axis
    return go.Scatter(
        **_columns(info, info.same_model) | {"hoverinfo": "skip"},
        mode="lines+markers+text",
        name=SAME_MODEL,
        showlegend=False,
        text=["", SAME_MODEL],
        textposition="bottom right" if at_left else "bottom left",
        textfont={"size": 10, "color": theme.MUTED},
        line={"color": theme.MUTED, "width": 1},
        marker={"color": theme.MUTED, "symbol": "arrow", "size": [0, 9], "angleref": "previous", "standoff": 6},
    )


def _finished_front(info: FrontInfo) -> go.Scatter:
    ends = unbeaten(info.finals, info.metric)
    dotted = {"color": theme.MUTED, "width": 1.5, "dash": "dot", "shape": "hv"}
    return _line(info, ends, "front of all runs", len(ends) > 1, dotted)


def _line(info: FrontInfo, points: Iterable[FrontPoint], name: str, named: bool, line: dict[str, Any]) -> go.Scatter:
    place = _columns(info, points) | {"hoverinfo": "skip"}
    return go.Scatter(**place, mode="lines", name=name, showlegend=named, line=line)


def _finished(info: FrontInfo, points: list[FrontPoint], method: str) -> go.Scatter:
    look = theme.style(method)
    points = sorted(points, key=lambda point: point.dominated)  # the legend looks like the first one
    colors = [theme.rgba(look.color, 0.45 if point.dominated else 1) for point in points]
    marker = {"color": colors, "symbol": look.symbol, "size": 12}
    return go.Scatter(**_columns(info, points), mode="markers", name=look.label, marker=marker)


def _columns(info: FrontInfo, points: Iterable[FrontPoint]) -> dict[str, Any]:
    """Points as Plotly takes them."""
    chosen = list(points)
    return {
        "x": [point.bytes for point in chosen],
        "y": [info.height(point) for point in chosen],
        "customdata": [[point.run] for point in chosen],
        "hovertext": base.tooltips([point.sentence for point in chosen]),
        "hoverinfo": "text",
    }
