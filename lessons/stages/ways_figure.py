"""Forgotten or cut: the size of leaving channels over the joint stage, and the training loss around the cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from compression.plots import theme
from lessons.panels import BROWN, Panel, line, marks, stacked, upright
from lessons.stages.ways import SEEDS, WAYS, Cut

COLORS = dict(zip(WAYS, (BROWN, theme.ACCENT), strict=True))


@dataclass(frozen=True)
class WaysInfo:
    """Of each way the ``cuts`` of one run, and the mean loss ``around`` those of all seeds."""

    cuts: Mapping[str, Sequence[Cut]]
    around: Mapping[str, Sequence[tuple[int, float]]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The pruning periods as a table."""
        rows = []
        for number, pair in enumerate(zip(*self.cuts.values(), strict=True), 1):
            row: dict[str, Any] = {"period": number, "cut after step": pair[0].last}
            for way, cut in zip(self.cuts, pair, strict=True):
                row |= {
                    f"left to cut, {WAYS[way]}, %": round(100 * cut.remaining, 1),
                    f"loss before, {WAYS[way]}": round(cut.before, 3),
                    f"loss after, {WAYS[way]}": None if cut.after is None else round(cut.after, 3),
                }
            rows.append(row)
        return rows


def ways_figure(info: WaysInfo, step: int) -> go.Figure:
    """Above, each period's leaving channels until they are cut, a line at the step looked at; below, the loss."""
    sizes, losses = [], []
    for way, color in COLORS.items():
        name = WAYS[way]
        sizes.append(line(name, *_teeth(info.cuts[way]), color, connectgaps=False))
        ends = [cut.last for cut in info.cuts[way]]
        shares = [100 * cut.remaining for cut in info.cuts[way]]
        hover = "cut after step %{x}: %{y:.0f} %<extra></extra>"
        cut = marks(f"cut, {name}", ends, shares, color, 8, showlegend=False, hovertemplate=hover)
        sizes.append(cut)
        steps, loss = zip(*info.around[way], strict=True)
        losses.append(line(name, steps, loss, color, showlegend=False))
    every = [cut for each in info.cuts.values() for cut in each]
    x = {"title": "training step", "range": [min(cut.first for cut in every) - 4, max(cut.last for cut in every) + 6]}
    y = {"title": "size, %", "rangemode": "tozero"}
    place = {"x": 0.5, "y": 1, "yref": "domain", "xanchor": "left", "yanchor": "bottom", "showarrow": False}
    note = {**place, "text": "cut", "font": {"size": 11, "color": theme.MUTED}}
    panels = [
        Panel(sizes, x, y, shapes=[upright(step, theme.HIGHLIGHT, 2)], share=1.1),
        Panel(
            losses,
            {"title": f"steps after the cut (mean of {len(SEEDS) * (len(ends) - 1)})"},
            {"title": "training loss"},
            shapes=[upright(0.5, theme.MUTED, 1, "dash")],
            notes=[note],
        ),
    ]
    return stacked(panels, 335, uirevision="ways")


def _teeth(cuts: Sequence[Cut]) -> tuple[list[float | None], list[float | None]]:
    """Steps and sizes, a gap between two periods; each ends at 0, where its channels are cut."""
    x: list[float | None] = []
    y: list[float | None] = []
    for cut in cuts:
        x += [*cut.sizes, cut.last, cut.last, None]
        y += [*(100 * share for share in cut.sizes.values()), 100 * cut.remaining, 0, None]
    return x, y
