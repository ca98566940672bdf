"""A small network as lanes of squares, one square a channel; what leaves with the picked channel is crossed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from compression.graph.types import Graph
from compression.plots import theme
from lessons.panels import Panel, marks, stacked

Positions = Mapping[tuple[str, int], Sequence[int]]
SIDES = {0: "out", 1: "in"}
FEW = 12  # squares that still look like squares in one lane


@dataclass(frozen=True)
class Lane:
    """The outputs or inputs of one layer: how many channels it has, and which of them leave."""

    layer: str
    side: str
    channels: int
    leaving: tuple[int, ...]

    @property
    def name(self) -> str:
        """The label at the left."""
        return f"{self.layer}  {self.side}"

    @property
    def numbers(self) -> str:
        """The channels that leave, for a table."""
        return ", ".join(map(str, self.leaving)) or "–"


def lanes(graph: Graph, positions: Positions) -> list[Lane]:
    """A lane for each side of every weight that has more than one channel there, in the order of the network."""
    result = []
    for name, shape in graph.sizes.items():
        layer, _, kind = name.rpartition(".")
        for dim in (1, 0):  # inputs above outputs
            if kind == "weight" and dim < len(shape) and shape[dim] > 1:
                side = SIDES[dim] if len(shape) > 1 else "scale"
                result.append(Lane(layer, side, shape[dim], tuple(positions.get((name, dim), ()))))
    return result


def rows(lanes: Sequence[Lane]) -> list[dict[str, Any]]:
    """The figure as a table."""
    return [
        {
            "layer": lane.layer,
            "side": lane.side,
            "channels": lane.channels,
            "go": ", ".join(map(str, lane.leaving)) or "–",
        }
        for lane in lanes
    ]


def channels_figure(lanes: Sequence[Lane]) -> go.Figure:
    """One lane below the other, the network's input at the top."""
    most = max((lane.channels for lane in lanes), default=1)
    size = 15 if most <= FEW else 10
    looks = {False: ("stays", theme.rgba(theme.ACCENT, 0.45), size, "square")}
    looks[True] = ("goes with it", theme.HIGHLIGHT, size - 3, "x")
    traces = []
    for leaving, (name, color, pixels, symbol) in looks.items():
        spots = [(i, lane.name) for lane in lanes for i in range(lane.channels) if (i in lane.leaving) == leaving]
        hover = "%{y}, channel %{x}<extra>" + name + "</extra>"
        xs, ys = [i for i, _ in spots], [lane for _, lane in spots]
        traces.append(marks(name, xs, ys, color, pixels, symbol=symbol, hovertemplate=hover))
    names = [lane.name for lane in lanes]
    y = {"categoryorder": "array", "categoryarray": names, "autorange": "reversed", "showgrid": False}
    x = {"title": "channel", "showgrid": False, "range": [-0.6, most - 0.4], "dtick": 1 if most <= FEW else 5}
    height = max(260, 120 + (26 if len(names) <= FEW else 19) * len(names))
    return stacked([Panel(traces, x, y)], height, hovermode="closest")
