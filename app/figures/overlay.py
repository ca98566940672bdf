"""A quantity of the layers as the colour of their nodes: parameters, work, sparsity or bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from app import theme


@dataclass(frozen=True)
class Overlay:
    """A quantity shown as colour: layer → its value, what it is called and counted in, and the ends of its scale."""

    title: str
    unit: str
    values: Mapping[str, float]
    low: float
    high: float
    scale: str = theme.SPARSITY_SCALE

    def color(self, node: str) -> str:
        """The colour of a node; muted where the quantity says nothing of it."""
        value = self.values.get(node)
        if value is None:
            return theme.FAINT
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return str(sample_colorscale(self.scale, [min(1.0, max(0.0, share))])[0])

    def sentence(self, node: str) -> str:
        """A line for the tooltip; empty where there is nothing to say."""
        value = self.values.get(node)
        return "" if value is None else f"<br>{self.title}: {value:,.4g}{self.unit}"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The overlay as a table."""
        return [{"layer": layer, f"{self.title}{self.unit}": round(v, 4)} for layer, v in self.values.items()]


def color_bar(overlay: Overlay) -> go.Scatter:
    """Nothing but the colour bar."""
    bar = {"title": overlay.title, "thickness": 12, "ticksuffix": overlay.unit, "len": 0.5, "y": 1, "yanchor": "top"}
    ends = {"cmin": overlay.low, "cmax": overlay.high, "colorscale": overlay.scale, "colorbar": bar}
    marker = {"color": [overlay.low], "showscale": True, "size": 0.1, **ends}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)
