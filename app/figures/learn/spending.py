"""The greedy walk: error over bits spent, down to the bound that no allocation can beat; and every layer's bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures import base
from app.figures.learn.panels import Panel, here, layer_axis, line, stacked, upright
from compression.methods.opq.bits import Choice


@dataclass(frozen=True)
class SpendingInfo:
    """``trail``: (error, bits spent) after each upgrade; ``bits`` now and in the ``best`` allocation, per layer."""

    layers: tuple[str, ...]
    bits: tuple[int, ...]
    best: tuple[int, ...]
    trail: tuple[tuple[float, int], ...]
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


def spending_info(
    layers: Sequence[str], bits: Sequence[int], best: Sequence[int], trail: Sequence[tuple[float, int]], taken: int,
    optimum: Choice, bound: float, budget: int,
) -> SpendingInfo:  # fmt: skip
    """What the picture holds."""
    end = (optimum.error, optimum.cost)
    return SpendingInfo(tuple(layers), tuple(bits), tuple(best), tuple(trail), taken, end, bound, budget)


def spending_figure(info: SpendingInfo) -> go.Figure:
    """Above: the walk. Below: bits per layer, with the optimum's as marks."""
    return stacked([_walk(info), _layers(info)], 400, uirevision="spending", hovermode="closest", bargap=0.35)


def _walk(info: SpendingInfo) -> Panel:
    errors, spent = [error for error, _ in info.trail], [cost for _, cost in info.trail]
    walk = line("walk", spent, errors, theme.ACCENT)
    walk |= {"mode": "lines+markers", "marker": {"size": 5, "color": theme.ACCENT}}
    ends = [spent[0], info.budget]
    best = here(info.optimum[1], info.optimum[0], "optimum")
    best["marker"] = {"size": 14, "symbol": "star", "color": theme.STYLES["sequential"].color}
    traces = [
        walk,
        line("lower bound", ends, [info.bound] * 2, theme.MUTED, dash="dot"),
        best,
        here(spent[info.taken], errors[info.taken]),
    ]
    ticks, told = base.log_ticks([info.bound, *errors], "{:g}".format)
    y = {"title": "error Σ(w−ŵ)²", "type": "log", "tickvals": ticks, "ticktext": told}
    budget = upright(info.budget, theme.HIGHLIGHT, 1, "dash")
    return Panel(traces, {"title": "value bits spent (dashed: budget)"}, y, shapes=[budget], share=1.3)


def _layers(info: SpendingInfo) -> Panel:
    bars = {
        "type": "bar", "x": info.layers, "y": info.bits, "name": "bits now", "showlegend": False,
        "marker": {"color": theme.STYLES["opq"].color}, "hovertemplate": "%{x}: %{y} bits<extra></extra>",
    }  # fmt: skip
    marks = {
        "type": "scatter", "mode": "markers", "x": info.layers, "y": info.best, "name": "optimum",
        "marker": {"symbol": "star", "size": 9, "color": theme.STYLES["sequential"].color}, "showlegend": False,
        "hovertemplate": "%{x}: %{y} bits in the optimum<extra></extra>",
    }  # fmt: skip
    return Panel([bars, marks], layer_axis(info.layers), {"title": "bits", "range": [0, 8.5], "dtick": 2})
