"""Steps over norms with the line of one number, and below it coded bits over sizes; both on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from compression.plots import theme
from lessons.maths.norms import Steps
from lessons.panels import Panel, line, marks, stacked

RIQ, OPQ = "RIQ: Δ = ‖w‖/k", "OPQ, coded bits"


@dataclass(frozen=True, eq=False)
class NormsInfo:
    """Layers with their ``sizes`` and norms ``lengths``, the steps by one number ``k`` and those by the allocation."""

    names: Sequence[str]
    sizes: Sequence[int]
    lengths: NDArray[np.float64]
    by_norm: Steps
    allocated: Steps
    k: float

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Both charts as a table."""
        both = {RIQ: self.by_norm, OPQ: self.allocated}
        return [
            {
                "layer": name,
                "weights": size,
                "‖w‖": round(float(self.lengths[i]), 3),
                **{f"step, {way}": float(f"{each.steps[i]:.4g}") for way, each in both.items()},
                **{f"bits, {way}": round(float(each.bits[i]) / size, 3) for way, each in both.items()},
            }
            for i, (name, size) in enumerate(zip(self.names, self.sizes, strict=True))
        ]


def norms_figure(info: NormsInfo) -> go.Figure:
    """Above: Δ over ‖w‖. Below: coded bits a weight over the number of weights."""
    ends = np.array([0.8, 1.25]) * [info.lengths.min(), info.lengths.max()]
    hover = "%{text}: Δ = %{y:.3g}<extra></extra>"
    above = [
        line(RIQ, ends, ends / info.k, theme.HIGHLIGHT, hoverinfo="skip"),
        marks(OPQ, info.lengths, info.allocated.steps, theme.ACCENT, 10, text=list(info.names), hovertemplate=hover),
    ]
    sizes = np.array(info.sizes)
    hover = "%{text}: %{y:.2f} bits<extra></extra>"
    below = [
        marks(name, sizes, way.bits / sizes, color, size, symbol=symbol, text=list(info.names), hovertemplate=hover,
              showlegend=False)
        for name, way, color, size, symbol in (
            (RIQ, info.by_norm, theme.HIGHLIGHT, 11, "line-ew-open"), (OPQ, info.allocated, theme.ACCENT, 10, "circle")
        )
    ]  # fmt: skip
    steps = np.concatenate([info.allocated.steps, ends / info.k])
    return stacked(
        [
            Panel(
                above,
                {"title": "norm ‖w‖ of the layer", **_ticks(ends, _ROUND)},
                {"title": "step Δ", **_ticks(steps, _ROUND)},
            ),
            Panel(below, {"title": "weights of the layer", **_ticks(sizes, _POWERS)}, {"title": "coded bits a weight"}),
        ],
        440,
        uirevision="norms",
        hovermode="closest",
    )


_ROUND = [digit * 10.0**power for power in range(-5, 4) for digit in (1, 1.5, 2, 3, 5, 7)]
_POWERS = [2**power for power in range(8, 24)]


def _ticks(values: NDArray[Any], at: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with its numbers written out."""
    shown = [value for value in at if values.min() / 1.1 <= value <= values.max() * 1.1]
    return {"type": "log", "tickvals": shown, "ticktext": [f"{value:,.6g}" for value in shown]}
