"""One layer's codes counted in several ways: bits a weight, a bar each, the honest ones apart from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures.learn.panels import Panel, stacked
from compression.pack.estimates import Sizes

WAYS = {
    "floats": ("fp32, dense", "as it was trained", theme.MUTED),
    "values": ("values only", "positions of zeros forgotten: nothing could read this", theme.HIGHLIGHT),
    "fixed": ("fixed length", "b bits for every weight, zeros too", theme.ACCENT),
    "bitmap": ("values + bitmap", "b bits for each survivor, 1 bit for where it is", theme.ACCENT),
    "entropy": ("entropy", "what a code of single symbols needs at least", theme.STYLES["sequential"].color),
    "coded": ("packed file", "the real stream with its table", theme.STYLES["sequential"].color),
}
ROOM = 1.35


@dataclass(frozen=True)
class CountingInfo:
    """``bits``: way of counting → bits a weight; ``width``: the quantizer's b."""

    bits: dict[str, float]
    width: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The bars as a table."""
        return [
            {
                "counted as": WAYS[way][0],
                "bits a weight": round(bits, 4),
                "times smaller than fp32": round(32 / bits, 2),
            }
            for way, bits in self.bits.items()
            if bits
        ]


def counting_info(found: Sizes, width: int) -> CountingInfo:
    """Bits a weight in every way."""
    size = found.floats / 32
    return CountingInfo({way: getattr(found, way) / size for way in WAYS}, width)


def counting_figure(info: CountingInfo) -> go.Figure:
    """The bars; the dense one is cut off where the others end, and says its number."""
    others = [bits for way, bits in info.bits.items() if way != "floats"]
    end = max(others) * ROOM
    names = [WAYS[way][0] for way in info.bits]
    bars = {
        "type": "bar", "orientation": "h", "y": names, "x": [min(bits, end) for bits in info.bits.values()],
        "marker": {"color": [WAYS[way][2] for way in info.bits]}, "showlegend": False,
        "text": [f"{bits:.2f}" + (" →" if bits > end else "") for bits in info.bits.values()],
        "textposition": ["inside" if bits > end else "outside" for bits in info.bits.values()],
        "insidetextanchor": "end", "textfont": {"size": 13}, "hoverinfo": "text", "cliponaxis": False,
        "hovertext": [f"{WAYS[way][0]}: {WAYS[way][1]}" for way in info.bits],
    }  # fmt: skip
    y = {"autorange": "reversed", "type": "category", "showgrid": False}
    return stacked([Panel([bars], {"title": "bits a weight", "range": [0, end]}, y)], 300, uirevision="counting")
