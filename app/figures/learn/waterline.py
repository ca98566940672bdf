"""One layer's magnitudes with their Laplace density and the threshold; below, what each layer loses in three ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures.learn.panels import Panel, band, layer_axis, line, stacked, upright
from compression.quant.tables import LayerTables

BINS, POINTS = 60, 80
MODES = {
    "laplace": ("Laplace", theme.STYLES["opq"].color),
    "empirical": ("exact", theme.ACCENT),
    "uniform": ("all alike", theme.MUTED),
}


@dataclass(frozen=True)
class WaterlineInfo:
    """``density`` over ``middles``: the magnitudes of the layer looked at; ``shares``: mode → share lost per layer."""

    layer: str
    middles: tuple[float, ...]
    density: tuple[float, ...]
    scale: float
    level: float
    exact: float
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    shares: Mapping[str, tuple[float, ...]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lower chart as a table."""
        return [
            {
                "layer": name,
                "weights": size,
                **{f"{MODES[m][0]}, %": round(100 * s[i], 2) for m, s in self.shares.items()},
            }
            for i, (name, size) in enumerate(zip(self.layers, self.sizes, strict=True))
        ]


def waterline_info(
    tables: LayerTables, index: int, level: float, exact: float, counts: Mapping[str, Sequence[int]]
) -> WaterlineInfo:
    """Bin the layer's magnitudes; ``counts``: mode → weights lost per layer."""
    layer = tables.layers[index]
    density, edges = np.histogram(layer.magnitudes, BINS, (0, float(layer.magnitudes[-1])), density=True)
    sizes = tuple(each.size for each in tables.layers)
    return WaterlineInfo(
        layer.name,
        tuple(float(x) for x in (edges[:-1] + edges[1:]) / 2),
        tuple(float(y) for y in density),
        layer.scale,
        level,
        exact,
        tuple(each.name for each in tables.layers),
        sizes,
        {mode: tuple(k / n for k, n in zip(counts[mode], sizes, strict=True)) for mode in MODES},
    )


def waterline_figure(info: WaterlineInfo) -> go.Figure:
    """Above: the layer under water. Below: three bars for each layer."""
    return stacked([_magnitudes(info), _shares(info)], 400, uirevision="waterline", barmode="group", bargap=0.2)


def _magnitudes(info: WaterlineInfo) -> Panel:
    hues = [theme.rgba(theme.MUTED, 0.35) if x <= info.exact else theme.rgba(theme.ACCENT, 0.6) for x in info.middles]
    bars = {
        "type": "bar", "x": info.middles, "y": info.density, "marker": {"color": hues}, "showlegend": False,
        "name": "weights", "hovertemplate": "|w| near %{x:.3f}<extra></extra>",
    }  # fmt: skip
    xs = np.linspace(0, info.middles[-1], POINTS)
    ys = np.exp(-xs / info.scale) / info.scale
    density = line("density", xs.tolist(), ys.tolist(), MODES["laplace"][1], hoverinfo="skip")
    return Panel(
        [bars, density],
        {"title": f"magnitude |w| in {info.layer}", "range": [0, info.middles[-1]]},
        {"title": "density", "showticklabels": False, "showgrid": False},
        shapes=[
            band(0, info.level, theme.rgba(theme.STAGES["projection"][1], 0.18)),
            upright(info.level, MODES["laplace"][1], 2),
            upright(info.exact, MODES["empirical"][1], 2, "dash"),
        ],
    )


def _shares(info: WaterlineInfo) -> Panel:
    traces = [
        {
            "type": "bar", "x": info.layers, "y": [100 * share for share in info.shares[mode]], "name": name,
            "marker": {"color": color}, "hovertemplate": "%{x}: %{y:.1f} %<extra>" + name + "</extra>",
        }
        for mode, (name, color) in MODES.items()
    ]  # fmt: skip
    return Panel(traces, layer_axis(info.layers), {"title": "pruned, %", "range": [0, 100]}, share=1.1)
