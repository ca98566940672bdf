"""The channels of a layer against one shared step: how far each reaches, and how many bits it spends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from app import theme
from app.figures.learn.panels import Panel, line, stacked
from compression.quant.codebook import Codebook

MOST_LINES = 40


@dataclass(frozen=True)
class CodebookInfo:
    """``ranges`` and ``bits`` of the channels, in the order of the layer; ``step``: the shared one; ``average``: B."""

    ranges: tuple[float, ...]
    bits: tuple[float, ...]
    step: float
    average: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The channels as a table."""
        return [
            {"channel": i, "largest |w|": round(reach, 5), "bits": round(bits, 3)}
            for i, (reach, bits) in enumerate(zip(self.ranges, self.bits, strict=True))
        ]


def codebook_info(ranges: NDArray[np.float64], found: Codebook, average: int) -> CodebookInfo:
    """What the picture holds."""
    return CodebookInfo(tuple(map(float, ranges)), tuple(map(float, found.bits)), found.step, average)


def codebook_figure(info: CodebookInfo) -> go.Figure:
    """Above: each channel from -α to α over the shared levels. Below: the bits each channel spends."""
    return stacked([_reach(info), _bits(info)], 350, uirevision="codebook", hovermode="closest", bargap=0.25)


def _reach(info: CodebookInfo) -> Panel:
    channels = list(range(len(info.ranges)))
    bars = {
        "type": "bar", "x": channels, "y": [2 * reach for reach in info.ranges], "base": [-r for r in info.ranges],
        "marker": {"color": theme.rgba(theme.ACCENT, 0.55)}, "name": "range",
        "hovertemplate": "channel %{x}: up to %{customdata:.3f}<extra></extra>", "customdata": list(info.ranges),
    }  # fmt: skip
    most = max(info.ranges)
    count = int(most / info.step)
    levels = [k * info.step for k in range(-count, count + 1)] if 2 * count + 1 <= MOST_LINES else []
    thin = {"color": theme.STYLES["opq"].color, "width": 0.7}
    shapes = [
        {"type": "line", "x0": 0, "x1": 1, "xref": "domain", "y0": y, "y1": y, "line": thin}
        for y in levels
    ]  # fmt: skip
    y = {"title": "weight (lines: kΔ)" if levels else "weight", "showgrid": False, "range": [-1.05 * most, 1.05 * most]}
    return Panel([bars], {"showticklabels": False}, y, shapes=shapes)


def _bits(info: CodebookInfo) -> Panel:
    channels = list(range(len(info.bits)))
    bars = {
        "type": "bar", "x": channels, "y": list(info.bits), "name": "bits",
        "marker": {"color": theme.STYLES["opq"].color}, "hovertemplate": "channel %{x}: %{y:.2f} bits<extra></extra>",
    }  # fmt: skip
    ends = [-0.5, len(channels) - 0.5]
    average = line("average B", ends, [info.average] * 2, theme.MUTED, dash="dash")
    length = line("one length", ends, [max(info.bits)] * 2, theme.HIGHLIGHT, dash="dot")
    return Panel([bars, average, length], {"title": "output channel"}, {"title": "bits", "rangemode": "tozero"})
