"""A layer's histogram under a uniform quantizer, and below it rounding and clipping error over the clipping bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from compression.plots import theme
from compression.quant.quantizer import levels
from lessons.maths.errors import ErrorParts
from lessons.panels import BROWN, Panel, bars, here, line, stacked, upright

BINS = 80
MOST_LINES = 64  # values drawn as lines; more would be a grey area
ROUNDING, CLIPPING, TOTAL = theme.ACCENT, theme.HIGHLIGHT, theme.MUTED
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class RoundingInfo:
    """``counts`` over ``edges``: the histogram; ``grid``: the values a weight may take; ``errors`` at ``percents``.

    ``stairs``: x and Q(x) of every corner [2, corners].
    """

    counts: NDArray[np.int64]
    edges: Floats
    grid: Floats
    stairs: Floats
    now: ErrorParts
    percents: Sequence[int]
    errors: Sequence[ErrorParts]

    @property
    def best(self) -> int:
        """The bound, in percent, with the least error."""
        return self.percents[min(range(len(self.errors)), key=lambda i: self.errors[i].total)]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lower chart as a table."""
        return [
            {
                "bound, %": share,
                "q_m": parts.clip,
                "step d": parts.step,
                "rounding error": parts.rounding,
                "clipping error": parts.clipping,
                "SQNR, dB": round(parts.sqnr, 2),
            }
            for share, parts in zip(self.percents, self.errors, strict=True)
        ]


def rounding_info(
    weights: NDArray[np.float32], now: ErrorParts, bits: int, percents: Sequence[int], errors: Sequence[ErrorParts]
) -> RoundingInfo:
    """Bin the weights (flat, fp32) and lay out the quantizer's values and stairs over their range."""
    top = float(np.abs(weights).max()) * 1.02 or 1.0
    counts, edges = np.histogram(weights, BINS, (-top, top))
    most = round(levels(bits))
    grid = np.arange(-most, most + 1) * now.step
    rises = np.repeat((grid[:-1] + grid[1:]) / 2, 2)  # Q rises halfway between two of its values
    stairs = np.stack([[-top, *rises, top], np.repeat(grid, 2)])
    return RoundingInfo(counts, edges, grid, stairs, now, percents, errors)


def rounding_figure(info: RoundingInfo) -> go.Figure:
    """Above: weights, values and stairs. Below: the two errors and their sum, with a marker where you are."""
    return stacked([_weights(info), _errors(info)], 400, uirevision="rounding", hovermode="closest", bargap=0.05)


def _weights(info: RoundingInfo) -> Panel:
    middles, nearer = (info.edges[:-1] + info.edges[1:]) / 2, np.minimum(abs(info.edges[:-1]), abs(info.edges[1:]))
    hues = [CLIPPING if reach >= info.now.clip else theme.rgba(ROUNDING, 0.55) for reach in nearer]
    hover = "%{y} weights near %{x:.3f}"
    histogram = bars("weights", middles, info.counts, hues, showlegend=False, hover=hover)
    stairs = line("Q(w)", info.stairs[0], info.stairs[1], BROWN, right=True)
    stairs["hovertemplate"] = "%{x:.3f} becomes %{y:.3f}<extra></extra>"
    ends = [info.edges[0], info.edges[-1]]
    return Panel(
        [histogram, stairs],
        {"title": "weight w", "range": ends},
        {"title": "weights", "showgrid": False},
        share=1.25,
        right={"title": "Q(w)", "range": ends, "tickmode": "auto", "nticks": 5},
        shapes=[upright(value) for value in info.grid if len(info.grid) <= MOST_LINES],
    )


def _errors(info: RoundingInfo) -> Panel:
    traces = []
    for name, color, dash in (("rounding", ROUNDING, "dash"), ("clipping", CLIPPING, "dot"), ("total", TOTAL, "solid")):
        values = [100 * getattr(parts, name) / parts.signal or None for parts in info.errors]
        hover = "%{y:.3g} % at a bound of %{x} %<extra></extra>"
        traces.append(line(name, info.percents, values, color, dash=dash, hovertemplate=hover))
    bound, error = 100 * info.now.clip / info.errors[-1].clip, 100 * info.now.total / info.now.signal
    return Panel(
        [*traces, here(bound, error, hovertemplate="%{y:.3g} % at a bound of %{x:.0f} %<extra></extra>")],
        {"title": "clipping bound, % of the largest weight"},
        {"title": "error, % of Σw²", "type": "log", "dtick": 1, "exponentformat": "none"},
    )
