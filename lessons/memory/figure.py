"""Singular values of a rounded matrix, and below them how long signals are after many steps through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from compression.plots import theme
from lessons.panels import VIOLET, Panel, here, level, line, marks, stacked

Floats = NDArray[np.float64]
FLOOR, CEILING = 1e-6, 1e6
"""What the lower chart shows; signals beyond are drawn at its edge."""


@dataclass(frozen=True, eq=False)
class MemoryInfo:
    """``singular`` values, falling; ``bound``: how far from 1 rounding alone may move them; ``lengths``: of each signal
    after each step, [steps + 1, signals]; ``steps``: the step that is looked at.
    """

    singular: Floats
    bound: float
    lengths: Floats
    steps: int

    @property
    def middle(self) -> Floats:
        """The median length after each step."""
        return np.asarray(np.median(self.lengths, axis=1))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lower chart as a table."""
        shortest, longest = self.lengths.min(axis=1), self.lengths.max(axis=1)
        return [
            {
                "step": t,
                "shortest": float(f"{shortest[t]:.4g}"),
                "median": float(f"{self.middle[t]:.4g}"),
                "longest": float(f"{longest[t]:.4g}"),
                "σ_max^t": float(f"{self.singular[0] ** t:.4g}"),
                "σ_min^t": float(f"{self.singular[-1] ** t:.4g}"),
            }
            for t in range(len(self.lengths))
        ]


def memory_figure(info: MemoryInfo) -> go.Figure:
    """Above: singular values, the line 1 and the bound around it. Below: lengths over time, on a logarithmic axis."""
    numbers, times = np.arange(1, len(info.singular) + 1), np.arange(len(info.lengths))
    around = {"type": "rect", "x0": 0, "x1": 1, "xref": "domain", "y0": max(0.0, 1 - info.bound), "y1": 1 + info.bound}
    around |= {"fillcolor": theme.rgba(theme.MUTED, 0.18), "line": {"width": 0}, "layer": "below"}
    hover = "σ = %{y:.4g}<extra></extra>"
    above = marks("singular values", numbers, info.singular, theme.ACCENT, 7, hovertemplate=hover, showlegend=False)
    hover = "%{y:.3g} times as long after %{x} steps<extra></extra>"
    below = [
        line("median signal", times, _shown(info.middle), theme.ACCENT, width=2.5, hovertemplate=hover),
        line("shortest, longest", times, _shown(info.lengths.max(axis=1)), theme.ACCENT, width=1, hovertemplate=hover),
        line("", times, _shown(info.lengths.min(axis=1)), theme.ACCENT, width=1, hovertemplate=hover, showlegend=False),
        line("bounds", times, _shown(info.singular[0] ** times), VIOLET, dash="dash", hovertemplate=hover),
        line("", times, _shown(info.singular[-1] ** times), VIOLET, dash="dash", hovertemplate=hover, showlegend=False),
        here(info.steps, float(_shown(info.middle[info.steps])), cliponaxis=False, hovertemplate=hover),
    ]
    reach = max(0.5, float(np.abs(info.singular - 1).max()) + 0.05)
    powers = [-6, -4, -2, 0, 2, 4, 6]
    ticks = {"type": "log", "tickvals": [10.0**p for p in powers], "ticktext": [f"{10.0**p:g}" for p in powers]}
    spread = max(0.3, np.abs(np.log10(_shown(np.concatenate([info.lengths[-1], info.lengths[1]])))).max() * 1.1)
    return stacked(
        [
            Panel(
                [above],
                {"title": "number", "range": [0.2, len(numbers) + 0.8]},
                {"title": "singular value", "range": [1 - reach, 1 + reach]},
                shapes=[around, level(1, theme.MUTED)],
                share=0.8,
            ),
            Panel(
                below,
                {"title": "steps through the matrix", "range": [0, len(times) - 1]},
                {"title": "length of a signal", **ticks, "range": [-min(6.2, spread), min(6.2, spread)]},
                shapes=[level(1, theme.MUTED)],
            ),
        ],
        430,
        uirevision="memory",
        hovermode="closest",
    )


def _shown(lengths: Floats | float) -> Floats:
    return np.clip(lengths, FLOOR, CEILING)
