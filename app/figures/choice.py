"""Drawing the front to choose from: accuracy over a logarithmic cost, beaten runs faint, picked ones ringed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures import base
from app.figures.candidates import CandidatesInfo, Mark

PICKED, OTHER = "picked", "the second one"
_FAINT = 0.45


def choice_figure(info: CandidatesInfo, picked: str = "", other: str = "", height: int = 520) -> go.Figure:
    """Draw the finished candidates; a click on a run gives its id in ``customdata``. Rings lie under the markers.

    Runs still going are measured on other data, their sizes estimated: they are told below the chart.
    """
    fig = base.figure(height, uirevision=f"choice {info.axis.field}", hovermode="closest", clickmode="event+select")
    fig.update_layout(legend=base.TWO_COLUMNS)
    fig.add_trace(_front(info))
    for run, name, dash in ((picked, PICKED, "square"), (other, OTHER, "circle")):
        mark = info.mark(run)
        fig.add_trace(_ring(info, None if mark is None or mark.live else mark, name, dash))
    for method in dict.fromkeys(mark.method for mark in info.finished):
        fig.add_trace(_finished(info, method))
    fig.add_trace(_stars(info))
    _axes(fig, info)
    return fig


def _front(info: CandidatesInfo) -> go.Scatter:
    return go.Scatter(
        x=[mark.cost for mark in info.front],
        y=[100 * max(mark.accuracy, info.floor) for mark in info.front],
        mode="lines",
        name="front",
        showlegend=len(info.front) > 1,
        hoverinfo="skip",
        line={"color": theme.MUTED, "width": 2, "shape": "hv"},
    )


def _ring(info: CandidatesInfo, mark: Mark | None, name: str, shape: str) -> go.Scatter:
    place = _columns(info, [mark] if mark else [])
    return go.Scatter(
        **{**place, "hoverinfo": "skip"},
        mode="markers",
        name=name,
        showlegend=mark is not None,
        marker={"color": theme.MUTED, "symbol": f"{shape}-open", "size": 24, "line": {"width": 2}},
        **_steady(),
    )


def _finished(info: CandidatesInfo, method: str) -> go.Scatter:
    look = theme.style(method)
    marks = sorted((m for m in info.finished if m.method == method), key=lambda mark: bool(mark.beaten))
    return go.Scatter(
        **_columns(info, marks),
        mode="markers",
        name=look.label,
        marker={
            "color": [theme.rgba(look.color, _FAINT if mark.beaten else 1) for mark in marks],
            "symbol": [_symbol(info, mark, look.symbol) for mark in marks],
            "size": 13,
        },
        **_steady(),
    )


def _stars(info: CandidatesInfo) -> go.Scatter:
    look = theme.style("dense")
    place = _columns(info, info.dense)
    return go.Scatter(
        **{**place, "customdata": [[""] for _ in info.dense]},
        mode="markers",
        name=look.label,
        marker={"color": look.color, "symbol": look.symbol, "size": 17},
        **_steady(),
    )


def _symbol(info: CandidatesInfo, mark: Mark, usual: str) -> str:
    return usual if mark.accuracy >= info.floor else "triangle-down-open"


def _steady() -> dict[str, Any]:
    """A click changes no marker: what is picked has a ring."""
    return {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}


def _columns(info: CandidatesInfo, marks: Sequence[Mark]) -> dict[str, Any]:
    return {
        "x": [mark.cost for mark in marks],
        "y": [100 * max(mark.accuracy, info.floor) for mark in marks],
        "customdata": [[mark.run] for mark in marks],
        "hovertext": [mark.sentence for mark in marks],
        "hoverinfo": "text",
    }


def _axes(fig: go.Figure, info: CandidatesInfo) -> None:
    drawn = [*info.finished, *info.dense]
    costs = [mark.cost for mark in drawn]
    ticks, texts = base.log_ticks(costs, info.axis.show)
    title, span = f"{info.axis.title}, logarithmic", base.log_range(costs, 0.06)
    fig.update_xaxes(title=title, type="log", tickvals=ticks, ticktext=texts, range=span)
    fig.update_yaxes(title="accuracy", ticksuffix=" %")
    if not drawn:
        return
    top = max(mark.accuracy for mark in drawn)
    space = max(0.08 * (top - info.floor), 0.002)
    fig.update_yaxes(range=[100 * (info.floor - space), 100 * (top + space)])
