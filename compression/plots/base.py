"""What all figures share: Plotly on demand, the template, axes of bytes, of numbers and of layers, shaded stages."""

from __future__ import annotations

import functools
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compression.plots import theme, words

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "scrollZoom": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}
TEMPLATE = "explorer"
MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}
TWO_COLUMNS = {"entrywidth": 88, "font": {"size": 10}}  # a legend of many methods: two beside each other on a phone
BAR = 24
"""Pixels at the top of a figure that its buttons (camera, zoom, …) cover while the pointer is on it: no legend."""
LETTER_SHARE = 0.018  # of a chart's width that a letter needs on a phone
TOOLTIP_LETTERS = 44  # a line of a tooltip that a phone shows whole
STEADY: dict[str, Any] = {"selected": {"marker": {"opacity": 1.0}}, "unselected": {"marker": {"opacity": 1.0}}}
"""Of a trace whose markers a click does not change."""


@functools.cache
def _graph_objects() -> Any:
    """``plotly.graph_objects``, with the template registered, on the first use of :data:`go`."""
    import pandas  # noqa: F401  (complete before Plotly, which fails on a pandas that another thread is importing)
    import plotly.graph_objects
    import plotly.io

    axis = {"automargin": True, "zeroline": False}
    plotly.io.templates[TEMPLATE] = plotly.graph_objects.layout.Template(
        layout={
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "legend": {"orientation": "h", "x": 0, "title": None},
            "hoverlabel": {"align": "left"},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.FAINT, "activecolor": theme.MUTED},
            "xaxis": axis,
            "yaxis": axis,
        }
    )
    return plotly.graph_objects


class _Lazy:
    def __getattr__(self, name: str) -> Any:
        return getattr(_graph_objects(), name)


if TYPE_CHECKING:
    import plotly.graph_objects as go
else:
    go = _Lazy()


@dataclass(frozen=True)
class RunStage:
    """One stage of a run of ``method``, from its first step to its last."""

    name: str
    start: float
    end: float
    method: str = ""


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure of the template; colours of text and grid are left to the page's theme.

    Margins are not in the template, because Streamlit replaces those of templates. The plot makes room for the legend.
    """
    below_bar = {"yref": "container", "yanchor": "top", "y": 1 - BAR / height}
    legend = {**below_bar, **layout.pop("legend", {})}
    return go.Figure(layout={"template": TEMPLATE, "height": height, "margin": MARGIN, "legend": legend, **layout})


def scatter(x: Sequence[Any], y: Sequence[Any], mode: str = "markers", **trace: Any) -> go.Scatter:
    """A trace with its ``hovertext`` as the whole tooltip; without one it has no tooltip."""
    if "hovertext" in trace:
        trace["hovertext"] = tooltips(trace["hovertext"])
    if "hovertemplate" not in trace:
        trace.setdefault("hoverinfo", "text" if "hovertext" in trace else "skip")
    return go.Scatter(x=x, y=y, mode=mode, **trace)


def tooltips(sentences: Sequence[str]) -> list[str]:
    """Sentences on lines that fit a phone; Plotly itself breaks no line, and cuts what is wider than the screen."""

    def folded(line: str) -> str:
        whole = line.replace(" %", "\u00a0%")  # a number and its sign stay together
        lines = textwrap.wrap(whole, TOOLTIP_LETTERS, break_long_words=False, break_on_hyphens=False)
        return "<br>".join(lines).replace("\u00a0%", " %")

    return ["<br>".join(folded(line) for line in sentence.split("<br>")) for sentence in sentences]


def empty(fig: go.Figure, text: str = "") -> None:
    """Axes of a chart without a point yet: no numbers, which would mean nothing, and a word on what comes."""
    fig.update_xaxes(showticklabels=False)
    fig.update_yaxes(showticklabels=False)
    if text:
        place: dict[str, Any] = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
        fig.add_annotation(**place, text=text, showarrow=False, font={"size": 12, "color": theme.MUTED})


def segments(starts: Sequence[float], ends: Sequence[float], rows: Sequence[str], **trace: Any) -> go.Scatter:
    """A line from start to end in each row; the trace has no tooltip and is not in the legend."""
    xs = [x for pair in zip(starts, ends, strict=True) for x in (*pair, None)]
    return scatter(xs, [y for row in rows for y in (row, row, None)], "lines", showlegend=False, **trace)


def layer_axis(fig: go.Figure, grid: bool = False) -> None:
    """Rows of the network, the first one on top."""
    fig.update_yaxes(autorange="reversed", type="category", showgrid=grid)


def log_axis(fig: go.Figure, values: Sequence[float], title: str, show: Callable[[float], str] = words.size,
             share: float = 0.08, ends: list[float] | None = None) -> None:  # fmt: skip
    """A logarithmic x axis with round ticks in the unit of ``show``; ``share``, ``ends``: see :func:`log_range`."""
    ticks, texts = log_ticks(values, show)
    span = ends or log_range(values, share)
    fig.update_xaxes(type="log", tickvals=ticks, ticktext=texts, range=span, title=f"{title}, logarithmic")


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


def log_ends(values: Sequence[float]) -> list[float] | None:
    """The ends (log10) of an axis a tenth of a decade beyond the values."""
    return [math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1] if values else None


def shade(fig: go.Figure, stages: Sequence[RunStage], tint: bool = True) -> None:
    """Shade the stages behind a chart over steps (or mark where they begin), named above it where there is room."""
    total = max((stage.end for stage in stages), default=0) - min((stage.start for stage in stages), default=0)
    for stage in stages:
        look = theme.stage(stage.name, stage.method)
        if tint:
            fig.add_vrect(x0=stage.start, x1=stage.end, layer="below", line_width=0, fillcolor=look.tint)
        else:
            fig.add_vline(x=stage.start, line={"color": theme.MUTED, "width": 1, "dash": "dot"})
        if total > 0 and (stage.end - stage.start) / total >= LETTER_SHARE * len(look.label):
            place: dict[str, Any] = {"x": stage.start, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
            font = {"size": 10, "color": theme.MUTED}
            fig.add_annotation(**place, text=look.label, font=font, showarrow=False)
