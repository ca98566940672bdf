"""The greedy walk: error over bits spent, down to the bound that no allocation can beat; and every layer's bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from compression.plots import base, theme
from lessons.panels import VIOLET, Panel, bars, here, layer_axis, line, marks, stacked, upright


@dataclass(frozen=True)
class SpendingInfo:
    """``trail``: (error, bits spent) after each upgrade; ``bits`` now and in the ``best`` allocation, per layer."""

    layers: Sequence[str]
    bits: Sequence[int]
    best: Sequence[int]
    trail: Sequence[tuple[float, int]]
    taken: int
    optimum: tuple[float, int]
    bound: float
    budget: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The layers' bits as a table."""
        return [
            {"layer": name, "bits now": now, "bits in the optimum": best}
            for name, now, best in zip(self.layers, self.bits, self.best, strict=True)
        ]


def spending_figure(info: SpendingInfo) -> go.Figure:
    """Above: the walk. Below: bits per layer, with the optimum's as marks."""
    return stacked([_walk(info), _layers(info)], 400, uirevision="spending", hovermode="closest", bargap=0.35)


def _walk(info: SpendingInfo) -> Panel:
    errors, spent = zip(*info.trail, strict=True)
    walk = line("walk", spent, errors, theme.ACCENT, marker={"size": 5, "color": theme.ACCENT})
    error, cost = info.optimum
    traces = [
        {**walk, "mode": "lines+markers"},
        line("lower bound", [spent[0], info.budget], [info.bound] * 2, theme.MUTED, dash="dot"),
        marks("optimum", [cost], [error], VIOLET, 14, symbol="star"),
        here(spent[info.taken], errors[info.taken]),
    ]
    ticks, labels = base.log_ticks([info.bound, *errors], "{:g}".format)
    y = {"title": "error Σ(w−ŵ)²", "type": "log", "tickvals": ticks, "ticktext": labels}
    budget = upright(info.budget, theme.HIGHLIGHT, 1, "dash")
    return Panel(traces, {"title": "value bits spent (dashed: budget)"}, y, shapes=[budget], share=1.3)


def _layers(info: SpendingInfo) -> Panel:
    hover = "%{x}: %{y} bits in the optimum<extra></extra>"
    traces = [
        bars("bits now", info.layers, info.bits, theme.HIGHLIGHT, showlegend=False, hover="%{x}: %{y} bits"),
        marks("optimum", info.layers, info.best, VIOLET, 9, symbol="star", showlegend=False, hovertemplate=hover),
    ]
    return Panel(traces, layer_axis(info.layers), {"title": "bits", "range": [0, 8.5], "dtick": 2})
