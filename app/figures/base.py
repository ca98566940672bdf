"""What every figure shares: margins, fonts left to the page's theme, axis ticks in bytes, shaded stages."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas  # noqa: F401  (whole before any figure: Plotly fails on a pandas that another tab is just importing)
import plotly.graph_objects as go

from app import theme, words

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "scrollZoom": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}


TWO_COLUMNS = {"entrywidth": 88, "font": {"size": 10}}  # a legend of many methods: two beside each other on a phone
LETTER_SHARE = 0.018  # of a chart's width that a letter needs on a phone


@dataclass(frozen=True)
class Stage:
    """One stage of a run, from its first step to its last."""

    name: str
    start: float
    end: float


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure with the app's margins; colours of text and grid come from the page's theme."""
    fig = go.Figure()
    fig.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "title": None},
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": theme.FAINT, "activecolor": theme.MUTED},
    )
    fig.update_xaxes(automargin=True, zeroline=False)
    fig.update_yaxes(automargin=True, zeroline=False)
    fig.update_layout(**layout)
    return fig


def byte_ticks(values: Sequence[float]) -> tuple[list[float], list[str]]:
    """Ticks for a logarithmic axis of bytes: 1, 2, 5 times powers of ten around the values."""
    return log_ticks(values, words.size)


def log_ticks(values: Sequence[float], show: Callable[[float], str]) -> tuple[list[float], list[str]]:
    """Ticks for a logarithmic axis, in the unit that ``show`` gives: 1, 2, 5 times powers of ten around the values."""
    positive = [v for v in values if v > 0]
    if not positive:
        return [], []
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return ticks, [re.sub(r"\.0+(?!\d)", "", show(tick)) for tick in ticks]


def log_range(values: Sequence[float], share: float) -> list[float] | None:
    """The ends (log10) of a logarithmic axis: the values, a ``share`` of their span on both sides, two ticks at least.

    Values close together would lie between two ticks and show none: then the axis reaches to the nearest of them.
    """
    ticks = [math.log10(tick) for tick in log_ticks(values, str)[0]]
    if not ticks:
        return None
    low, high = (math.log10(end([v for v in values if v > 0])) for end in (min, max))
    margin = max(share * (high - low), 0.05)
    left, right = low - margin, high + margin
    if sum(left <= tick <= right for tick in ticks) < 2:
        left = min(left, max((tick for tick in ticks if tick < low), default=low) - 0.02)
        right = max(right, min((tick for tick in ticks if tick > high), default=high) + 0.02)
    return [left, right]


def shade(fig: go.Figure, stages: Sequence[Stage], tint: bool = True) -> None:
    """Shade the stages behind a chart over steps (or mark where they begin), named above it where there is room."""
    total = max((stage.end for stage in stages), default=0) - min((stage.start for stage in stages), default=0)
    for stage in stages:
        if tint:
            fill = theme.stage_tint(stage.name)
            fig.add_vrect(x0=stage.start, x1=stage.end, layer="below", line_width=0, fillcolor=fill)
        else:
            fig.add_vline(x=stage.start, line={"color": theme.MUTED, "width": 1, "dash": "dot"})
        label = theme.stage_label(stage.name)
        if total > 0 and (stage.end - stage.start) / total >= LETTER_SHARE * len(label):
            font = {"size": 10, "color": theme.MUTED}
            place: dict[str, Any] = {"x": stage.start, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
            fig.add_annotation(**place, text=label, font=font, showarrow=False)
