"""A layer's histogram under a uniform quantizer, and below it rounding and clipping error over the clipping bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from app import theme
from app.figures.learn.panels import Panel, here, line, stacked, upright
from compression.quant.errors import ErrorParts
from compression.quant.quantizer import levels

BINS = 80
MOST_LINES = 64  # values drawn as lines; more would be a grey area
ROUNDING, CLIPPING, TOTAL = theme.ACCENT, theme.HIGHLIGHT, theme.MUTED


@dataclass(frozen=True)
class RoundingInfo:
    """``counts`` over ``edges``: the histogram; ``grid``: the values a weight may take; ``errors`` at ``percents``."""

    counts: tuple[int, ...]
    edges: tuple[float, ...]
    grid: tuple[float, ...]
    stairs: tuple[tuple[float, float], ...]
    now: ErrorParts
    percents: tuple[int, ...]
    errors: tuple[ErrorParts, ...]

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
    codes = np.arange(-most, most + 1)
    flights = [(-top, -most * now.step)]
    for code in codes[:-1]:
        flights += [((code + 0.5) * now.step, code * now.step), ((code + 0.5) * now.step, (code + 1) * now.step)]
    flights.append((top, most * now.step))
    return RoundingInfo(
        tuple(int(c) for c in counts),
        tuple(float(e) for e in edges),
        tuple(float(c * now.step) for c in codes),
        tuple((float(x), float(y)) for x, y in flights),
        now,
        tuple(percents),
        tuple(errors),
    )


def rounding_figure(info: RoundingInfo) -> go.Figure:
    """Above: weights, values and stairs. Below: the two errors and their sum, with a marker where you are."""
    return stacked([_above(info), _below(info)], 400, uirevision="rounding", hovermode="closest", bargap=0.05)


def _above(info: RoundingInfo) -> Panel:
    middles = [(a + b) / 2 for a, b in pairwise(info.edges)]
    beyond = [min(abs(a), abs(b)) >= info.now.clip for a, b in pairwise(info.edges)]
    hues = [CLIPPING if far else theme.rgba(ROUNDING, 0.55) for far in beyond]
    bars = {
        "type": "bar", "x": middles, "y": info.counts, "marker": {"color": hues}, "name": "weights",
        "showlegend": False, "hovertemplate": "%{y} weights near %{x:.3f}<extra></extra>",
    }  # fmt: skip
    xs, ys = zip(*info.stairs, strict=True)
    stairs = line("Q(w)", xs, ys, theme.STYLES["ptq"].color, right=True)
    stairs["hovertemplate"] = "%{x:.3f} becomes %{y:.3f}<extra></extra>"
    ends = [info.edges[0], info.edges[-1]]
    grid = info.grid if len(info.grid) <= MOST_LINES else ()
    return Panel(
        [bars, stairs],
        {"title": "weight w", "range": ends},
        {"title": "weights", "showgrid": False},
        share=1.25,
        right={"title": "Q(w)", "range": ends, "tickmode": "auto", "nticks": 5},
        shapes=[upright(value) for value in grid],
    )


def _below(info: RoundingInfo) -> Panel:
    looks = (("rounding", ROUNDING, "dash"), ("clipping", CLIPPING, "dot"), ("total", TOTAL, "solid"))
    traces = []
    for name, color, dash in looks:
        values = [100 * getattr(parts, name) / parts.signal or None for parts in info.errors]
        told = "%{y:.3g} % at a bound of %{x} %<extra></extra>"
        traces.append(line(name, info.percents, values, color, dash=dash, hovertemplate=told))
    bound, error = 100 * info.now.clip / info.errors[-1].clip, 100 * info.now.total / info.now.signal
    return Panel(
        [*traces, here(bound, error, hovertemplate="%{y:.3g} % at a bound of %{x:.0f} %<extra></extra>")],
        {"title": "clipping bound, % of the largest weight"},
        {"title": "error, % of Σw²", "type": "log", "dtick": 1, "exponentformat": "none"},
    )
