"""A small network as lanes of squares, one square a channel; what goes with the picked channel is lit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures.learn.panels import Panel, stacked
from compression.graph.types import Graph

Positions = Mapping[tuple[str, int], Sequence[int]]
SIDES = {0: "out", 1: "in"}
FEW = 12  # squares that still look like squares in one lane


@dataclass(frozen=True)
class Lane:
    """The outputs or inputs of one layer: how many channels it has, and which of them go."""

    layer: str
    side: str
    channels: int
    lit: tuple[int, ...]

    @property
    def name(self) -> str:
        """What stands at the left."""
        return f"{self.layer}  {self.side}"


def lanes(graph: Graph, positions: Positions) -> list[Lane]:
    """A lane for each side of every weight that has more than one channel there, in the order of the network."""
    found = []
    for name, shape in graph.sizes.items():
        layer, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        for dim in (1, 0):  # what comes in stands above what goes out
            if dim < len(shape) and shape[dim] > 1:
                side = SIDES[dim] if len(shape) > 1 else "scale"
                found.append(Lane(layer, side, shape[dim], tuple(positions.get((name, dim), ()))))
    return found


def rows(found: Sequence[Lane]) -> list[dict[str, Any]]:
    """The picture as a table."""
    return [
        {"layer": lane.layer, "side": lane.side, "channels": lane.channels, "go": ", ".join(map(str, lane.lit)) or "–"}
        for lane in found
    ]


def channels_figure(found: Sequence[Lane]) -> go.Figure:
    """One lane below the other, the network's input at the top."""
    traces = []
    for lit, name in ((False, "stays"), (True, "goes with it")):
        spots = [(i, lane) for lane in found for i in range(lane.channels) if (i in lane.lit) == lit]
        size = 15 if max((lane.channels for lane in found), default=0) <= FEW else 10
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [i for i, _ in spots],
                "y": [lane.name for _, lane in spots],
                "marker": {
                    "symbol": "x" if lit else "square",
                    "size": size - 3 if lit else size,
                    "color": theme.HIGHLIGHT if lit else theme.rgba(theme.ACCENT, 0.45),
                },
                "hovertemplate": "%{y}, channel %{x}<extra>" + name + "</extra>",
            }
        )
    names = [lane.name for lane in found]
    y = {"categoryorder": "array", "categoryarray": names, "autorange": "reversed", "showgrid": False}
    most = max((lane.channels for lane in found), default=1)
    x = {"title": "channel", "showgrid": False, "range": [-0.6, most - 0.4], "dtick": 1 if most <= FEW else 5}
    return stacked(
        [Panel(traces, x, y)], max(260, 120 + (26 if len(names) <= FEW else 19) * len(names)), hovermode="closest"
    )
