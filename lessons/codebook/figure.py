"""The channels of a layer against one shared step: how far each reaches, and how many bits it spends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from compression.plots import theme
from lessons.maths.codebook import Codebook
from lessons.panels import Panel, bars, level, line, stacked

MOST_LINES = 40


@dataclass(frozen=True, eq=False)
class CodebookInfo:
    """``ranges``: the largest magnitude of each channel; its bits are the ``codebook``'s; ``average``: B."""

    ranges: NDArray[np.float64]
    codebook: Codebook
    average: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The channels as a table."""
        return [
            {"channel": i, "largest |w|": round(float(reach), 5), "bits": round(float(bits), 3)}
            for i, (reach, bits) in enumerate(zip(self.ranges, self.codebook.bits, strict=True))
        ]


def codebook_figure(info: CodebookInfo) -> go.Figure:
    """Above: each channel from -α to α over the shared levels. Below: the bits each channel spends."""
    return stacked([_ranges(info), _bits(info)], 350, uirevision="codebook", hovermode="closest", bargap=0.25)


def _ranges(info: CodebookInfo) -> Panel:
    most, color = float(info.ranges.max()), theme.rgba(theme.ACCENT, 0.55)
    place = {"base": -info.ranges, "customdata": info.ranges, "hover": "channel %{x}: up to %{customdata:.3f}"}
    reach = bars("range", range(len(info.ranges)), 2 * info.ranges, color, **place)
    count = int(most / info.codebook.step)
    drawn = range(-count, count + 1) if 2 * count + 1 <= MOST_LINES else ()
    lines = [level(k * info.codebook.step, theme.HIGHLIGHT, 0.7) for k in drawn]
    title = "weight (lines: kΔ)" if lines else "weight"
    y = {"title": title, "showgrid": False, "range": [-1.05 * most, 1.05 * most]}
    return Panel([reach], {"showticklabels": False}, y, shapes=lines)


def _bits(info: CodebookInfo) -> Panel:
    bits = info.codebook.bits
    ends = [-0.5, len(bits) - 0.5]
    traces = [
        bars("bits", range(len(bits)), bits, theme.HIGHLIGHT, hover="channel %{x}: %{y:.2f} bits"),
        line("average B", ends, [info.average] * 2, theme.MUTED, dash="dash"),
        line("one length", ends, [bits.max()] * 2, theme.ACCENT, dash="dot"),
    ]
    return Panel(traces, {"title": "output channel"}, {"title": "bits", "rangemode": "tozero"})
