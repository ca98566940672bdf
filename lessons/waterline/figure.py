"""One layer's magnitudes with their Laplace density and the threshold; below, what each layer loses in three ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from compression.plots import theme
from compression.quant.tables import LayerTable, LayerTables
from lessons.panels import Panel, band, bars, layer_axis, line, stacked, upright

BINS, POINTS = 60, 80
MODES = {
    "laplace": ("Laplace", theme.HIGHLIGHT),
    "empirical": ("exact", theme.ACCENT),
    "uniform": ("all alike", theme.MUTED),
}


@dataclass(frozen=True, eq=False)
class WaterlineInfo:
    """The ``layer`` looked at, the Laplace ``level`` and the ``exact`` threshold, and mode → share lost per layer."""

    tables: LayerTables
    layer: LayerTable
    level: float
    exact: float
    shares: Mapping[str, Sequence[float]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lower chart as a table."""
        return [
            {
                "layer": layer.name,
                "weights": layer.size,
                **{f"{MODES[mode][0]}, %": round(100 * shares[i], 2) for mode, shares in self.shares.items()},
            }
            for i, layer in enumerate(self.tables.layers)
        ]


def waterline_figure(info: WaterlineInfo) -> go.Figure:
    """Above: the layer under water. Below: three bars for each layer."""
    return stacked([_magnitudes(info), _shares(info)], 400, uirevision="waterline", barmode="group", bargap=0.2)


def _magnitudes(info: WaterlineInfo) -> Panel:
    layer, most = info.layer, float(info.layer.magnitudes[-1])
    counts, edges = np.histogram(layer.magnitudes, BINS, (0, most), density=True)
    middles = (edges[:-1] + edges[1:]) / 2
    hues = [theme.rgba(theme.MUTED, 0.35) if x <= info.exact else theme.rgba(theme.ACCENT, 0.6) for x in middles]
    xs = np.linspace(0, middles[-1], POINTS)
    laplace, exact = (MODES[mode][1] for mode in ("laplace", "empirical"))
    traces = [
        bars("weights", middles, counts, hues, showlegend=False, hover="|w| near %{x:.3f}"),
        line("density", xs, np.exp(-xs / layer.scale) / layer.scale, laplace, hoverinfo="skip"),
    ]
    return Panel(
        traces,
        {"title": f"magnitude |w| in {layer.name}", "range": [0, middles[-1]]},
        {"title": "density", "showticklabels": False, "showgrid": False},
        shapes=[
            band(0, info.level, theme.rgba(theme.ACCENT, 0.18)),
            upright(info.level, laplace, 2),
            upright(info.exact, exact, 2, "dash"),
        ],
    )


def _shares(info: WaterlineInfo) -> Panel:
    names = [layer.name for layer in info.tables.layers]
    traces = [
        bars(name, names, [100 * share for share in info.shares[mode]], color, hovertemplate="%{x}: %{y:.1f} %")
        for mode, (name, color) in MODES.items()
    ]
    return Panel(traces, layer_axis(names), {"title": "pruned, %", "range": [0, 100]}, share=1.1)
