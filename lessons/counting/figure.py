"""One layer's codes counted in several ways: bits a weight, a bar each, the honest ones apart from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from compression.plots import base, theme
from lessons.maths.estimates import Sizes
from lessons.panels import VIOLET, Panel, bars, stacked

WAYS = {
    "floats": ("fp32, dense", "as it was trained", theme.MUTED),
    "values": ("values only", "positions of zeros forgotten: nothing could read this", theme.HIGHLIGHT),
    "fixed": ("fixed length", "b bits for every weight, zeros too", theme.ACCENT),
    "bitmap": ("values + bitmap", "b bits for each survivor, 1 bit for where it is", theme.ACCENT),
    "entropy": ("entropy", "what a code of single symbols needs at least", VIOLET),
    "coded": ("packed file", "the real stream with its table", VIOLET),
}
ROOM = 1.35


@dataclass(frozen=True)
class CountingInfo:
    """``bits``: way of counting → bits a weight."""

    bits: dict[str, float]

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


def counting_info(sizes: Sizes) -> CountingInfo:
    """Bits a weight in every way."""
    return CountingInfo({way: getattr(sizes, way) / (sizes.floats / 32) for way in WAYS})


def counting_figure(info: CountingInfo) -> go.Figure:
    """The bars; the dense one is cut off where the others end, and says its number."""
    end = ROOM * max(bits for way, bits in info.bits.items() if way != "floats")
    names, hints, hues = zip(*(WAYS[way] for way in info.bits), strict=True)
    every = list(info.bits.values())
    bar = bars("bits a weight", [min(bits, end) for bits in every], names, hues, orientation="h", showlegend=False)
    bar |= {
        "text": [f"{bits:.2f}" + (" →" if bits > end else "") for bits in every],
        "textposition": ["inside" if bits > end else "outside" for bits in every],
        "insidetextanchor": "end",
        "textfont": {"size": 13},
        "cliponaxis": False,
        "hoverinfo": "text",
        "hovertext": base.tooltips([f"{name}: {hint}" for name, hint in zip(names, hints, strict=True)]),
    }
    y = {"autorange": "reversed", "type": "category", "showgrid": False}
    return stacked([Panel([bar], {"title": "bits a weight", "range": [0, end]}, y)], 300, uirevision="counting")
