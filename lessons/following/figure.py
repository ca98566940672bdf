"""The output error so far along the path, and below it where the error points, for three ways of rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from compression.plots import theme
from lessons.maths.paths import NEAREST, ORTHOGONAL, PLAIN, Path
from lessons.panels import VIOLET, Panel, line, marks, stacked

LABELS = {NEAREST: "nearest", PLAIN: "path following", ORTHOGONAL: "GPTQ"}
_LOOKS = {NEAREST: (theme.MUTED, "dot"), PLAIN: (VIOLET, "dash"), ORTHOGONAL: (theme.ACCENT, "solid")}


def following_figure(ways: Mapping[str, Path]) -> go.Figure:
    """Above: |u|² relative to the neuron's output, after each weight. Below: u itself, in the two main directions."""
    above, below = [], []
    for name, path in ways.items():
        color, dash = _LOOKS[name]
        after = np.arange(len(path.share))
        hover = f"{LABELS[name]}: %{{y:.3g}} % after %{{x}} weights<extra></extra>"
        above.append(line(LABELS[name], after, 100 * path.share, color, dash=dash, hovertemplate=hover))
        hover = f"{LABELS[name]}<extra></extra>"
        x, y = path.places
        below.append(line(LABELS[name], x, y, color, dash=dash, showlegend=False, hovertemplate=hover, width=1.5))
        below.append(marks(f"{LABELS[name]}: end", x[-1:], y[-1:], color, 11, showlegend=False, symbol="diamond"))
    below.append(marks("no error", [0], [0], theme.HIGHLIGHT, 9, symbol="cross", showlegend=True))
    return stacked(
        [
            Panel(above, {"title": "weights rounded so far"}, {"title": "output error, %", "rangemode": "tozero"}),
            Panel(
                below,
                {"title": "error along the outputs' main direction"},
                {"title": "along the second"},
                share=1.25,
            ),
        ],
        390,
        uirevision="following",
        hovermode="closest",
    )


def rows(ways: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The upper chart as a table."""
    return [
        {
            "weights rounded": t,
            **{f"{LABELS[name]}, %": round(100 * float(path.share[t]), 4) for name, path in ways.items()},
        }
        for t in range(len(ways[NEAREST].share))
    ]
