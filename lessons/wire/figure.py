"""A gradient's values with the levels they are sent as, and below it how far the mean is off at every bit-width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from compression.plots import theme
from lessons.maths.wire import BEST, EVEN, NEAREST, Rounding
from lessons.panels import VIOLET, Panel, bars, here, line, stacked, upright

LABELS = {BEST: "ORQ, at random", EVEN: "even, at random", NEAREST: "nearest"}
_LOOKS = {BEST: (theme.ACCENT, "solid"), EVEN: (VIOLET, "dash"), NEAREST: (theme.MUTED, "dot")}
BINS, STRONG = 80, 24
"""How many bars there are, and up to how many levels are drawn in full colour."""
Curves = Sequence[Mapping[str, Rounding]]


def wire_figure(values: NDArray[Any], curves: Curves, way: str, bits: int, processes: int) -> go.Figure:
    """``curves``: for 1, 2, … bits what each way comes to; the levels are those of ``way`` at ``bits``."""
    counts, edges = np.histogram(values, BINS)
    hover = "%{y} values near %{x:.2g}"
    color = theme.rgba(theme.MUTED, 0.55)
    above = bars("values", (edges[1:] + edges[:-1]) / 2, counts, color, hover=hover, showlegend=False)
    sent = curves[bits - 1][way].levels.tolist()
    look = theme.rgba(_LOOKS[way][0], max(0.25, min(1.0, STRONG / len(sent))))
    levels = [upright(value, look, 1.5) for value in sent]
    widths = list(range(1, len(curves) + 1))
    below = []
    for name, label in LABELS.items():
        color, dash = _LOOKS[name]
        hover = f"{label}: %{{y:.3g}} % at %{{x}} bits<extra></extra>"
        errors = [100 * each[name].off(processes) for each in curves]
        below.append(line(label, widths, errors, color, dash=dash, hovertemplate=hover))
    now = 100 * curves[bits - 1][way].off(processes)
    below.append(here(bits, now, cliponaxis=False, hovertemplate="%{y:.3g} % at %{x} bits<extra></extra>"))
    logarithmic = {"type": "log", "tickvals": [10.0**p for p in range(-3, 5)]}
    logarithmic["ticktext"] = [f"{10.0**p:g}" for p in range(-3, 5)]
    return stacked(
        [
            Panel(
                [above],
                {"title": "gradient of a weight; lines: the levels that are sent", "exponentformat": "power"},
                {"title": "values", "type": "log", "dtick": 1, "exponentformat": "none"},
                shapes=levels,
                share=0.8,
            ),
            Panel(
                below,
                {"title": "bits a value", "dtick": 1, "range": [0.8, len(curves) + 0.2]},
                {"title": "mean is off by, %", **logarithmic},
            ),
        ],
        420,
        uirevision="wire",
        hovermode="closest",
        bargap=0.05,
    )


def rows(curves: Curves, processes: int, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The lower chart as a table, with the bytes of a step; ``sizes``: by bits."""
    return [
        {
            "bits": bits,
            **{f"{label}, %": float(f"{100 * each[name].off(processes):.4g}") for name, label in LABELS.items()},
            "bytes a step": size,
        }
        for bits, (each, size) in enumerate(zip(curves, sizes, strict=True), 1)
    ]
