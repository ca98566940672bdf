"""Drawing the accuracy–size front: sizes on a logarithmic axis, the open run growing, finished runs around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures import base
from app.figures.front_data import FrontInfo, Spot, unbeaten

SAME_MODEL = "same model: on test data, as a file"


def front_figure(info: FrontInfo, height: int = 460) -> go.Figure:
    """Draw the front; traces keep their order and number while a run grows, so that nothing jumps."""
    spots = [*info.trail, *info.finals, *info.dense]
    ticks, texts = base.byte_ticks([spot.bytes for spot in spots])
    fig = base.figure(height, uirevision="front", hovermode="closest")
    fig.update_layout(legend=base.TWO_COLUMNS)
    look = theme.style(info.method)
    for trace in _trail(info, look):
        fig.add_trace(trace)
    fig.add_trace(_latest(info, look))
    fig.add_trace(_arrow(info))
    fig.add_trace(_finished_front(info))
    for method in dict.fromkeys(spot.method for spot in info.finals):
        fig.add_trace(_final_trace([s for s in info.finals if s.method == method], method))
    dense = theme.style("dense")
    fig.add_trace(
        go.Scatter(
            **_columns(info.dense),
            mode="markers",
            name=dense.label,
            marker={"color": dense.color, "symbol": dense.symbol, "size": 16},
        )
    )
    fig.update_xaxes(
        title="size of the weights, logarithmic",
        type="log",
        tickvals=ticks,
        ticktext=texts,
        range=base.log_range([spot.bytes for spot in spots], 0.08),
    )
    top = max((spot.accuracy for spot in spots), default=1.0)
    margin = 0.06 * (top - info.floor)
    span = [100 * (info.floor - margin), 100 * (top + margin)]
    fig.update_yaxes(title="accuracy", ticksuffix=" %", range=span if spots else None)
    return fig


def _trail(info: FrontInfo, look: theme.Style) -> list[go.Scatter]:
    """The open run: its way as open dots on a thin line, and the front it has reached so far as a bold one.

    Once it has ended, only the way is left, fainter still.
    """
    shape = look.symbol.removesuffix("-open")
    symbols = [f"{shape if spot.accuracy >= info.floor else 'triangle-down'}-open" for spot in info.trail]
    line, dots = (0.1, 0.3) if info.ended else (0.2, 0.6)
    way = go.Scatter(
        **_columns(info.trail, info.floor),
        mode="lines+markers",
        name="way (validation)",
        showlegend=bool(info.trail),
        line={"color": theme.rgba(look.color, line), "width": 1},
        marker={"color": theme.rgba(look.color, dots), "symbol": symbols, "size": 7},
    )
    reached = _columns(info.own_front, info.floor) | {"hoverinfo": "skip"}
    front = go.Scatter(
        **reached,
        mode="lines",
        name="its front so far",
        showlegend=bool(info.own_front),
        line={"color": look.color, "width": 2.5, "shape": "hv"},
    )
    return [way, front]


def _latest(info: FrontInfo, look: theme.Style) -> go.Scatter:
    return go.Scatter(
        **_columns([info.latest] if info.latest else [], info.floor),
        mode="markers",
        name="now",
        showlegend=False,
        marker={"color": look.color, "symbol": f"{look.symbol}-open", "size": 15, "line": {"width": 2.5}},
    )


def _arrow(info: FrontInfo) -> go.Scatter:
    """From the last point on the way to the end: the two differ in what they are measured on."""
    sizes = [spot.bytes for spot in (*info.finals, *info.dense)]
    left = info.ended is not None and info.ended.bytes**2 < min(sizes) * max(sizes)  # of the middle of a log axis
    return go.Scatter(
        **_columns(info.same_model, info.floor) | {"hoverinfo": "skip"},
        mode="lines+markers+text",
        name=SAME_MODEL,
        showlegend=False,
        text=["", SAME_MODEL],
        textposition="bottom right" if left else "bottom left",
        textfont={"size": 10, "color": theme.MUTED},
        line={"color": theme.MUTED, "width": 1},
        marker={"color": theme.MUTED, "symbol": "arrow", "size": [0, 9], "angleref": "previous", "standoff": 6},
    )


def _finished_front(info: FrontInfo) -> go.Scatter:
    ends = unbeaten(info.finals)
    return go.Scatter(
        **_columns(ends) | {"hoverinfo": "skip"},
        mode="lines",
        name="front of all runs",
        showlegend=len(ends) > 1,
        line={"color": theme.MUTED, "width": 1.5, "dash": "dot", "shape": "hv"},
    )


def _final_trace(spots: list[Spot], method: str) -> go.Scatter:
    look = theme.style(method)
    spots = sorted(spots, key=lambda spot: spot.dominated)  # the legend looks like the first one
    return go.Scatter(
        **_columns(spots),
        mode="markers",
        name=look.label,
        marker={
            "color": [theme.rgba(look.color, 0.45 if spot.dominated else 1) for spot in spots],
            "symbol": look.symbol,
            "size": 12,
        },
    )


def _columns(spots: Iterable[Spot], floor: float = 0.0) -> dict[str, Any]:
    """Spots as Plotly takes them; what lies below ``floor`` is drawn at the bottom edge."""
    chosen = list(spots)
    return {
        "x": [spot.bytes for spot in chosen],
        "y": [100 * max(spot.accuracy, floor) for spot in chosen],
        "customdata": [[spot.run] for spot in chosen],
        "hovertext": [spot.sentence for spot in chosen],
        "hoverinfo": "text",
    }
