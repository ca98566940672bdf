"""A quantity of the layers as the colour of their nodes: parameters, work, sparsity or bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go
from compression.plots.boxes import MODULE

BAR_PIXELS = 240  # the drawing may be taller than the window it scrolls in


@dataclass(frozen=True)
class Overlay:
    """A quantity shown as colour: layer → its value, what it is called and counted in, and the ends of its scale.

    A module shows the sum of its layers where ``adds`` is set (parts of a whole), else their mean.
    """

    title: str
    unit: str
    values: Mapping[str, float]
    low: float
    high: float
    scale: str = theme.SPARSITY_SCALE
    adds: bool = False

    def value(self, node: str) -> float | None:
        """The value of a layer or module; ``None`` where the quantity says nothing of it."""
        if not node.startswith(MODULE):
            return self.values.get(node)
        path = node.removeprefix(MODULE).partition("#")[0]
        inside = [value for layer, value in self.values.items() if f"{layer}.".startswith(f"{path}.")]
        if not inside:
            return None
        return sum(inside) if self.adds else sum(inside) / len(inside)

    def fitted(self, nodes: Iterable[str]) -> Overlay:
        """With a scale that reaches to the sums of these modules."""
        sums = [value for value in map(self.value, nodes) if value is not None]
        return replace(self, high=max([self.high, *sums])) if self.adds else self

    def color(self, node: str) -> str:
        """The colour of a node; muted where the quantity says nothing of it."""
        from plotly.colors import sample_colorscale

        value = self.value(node)
        if value is None:
            return theme.FAINT
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return str(sample_colorscale(self.scale, [min(1.0, max(0.0, share))])[0])

    def sentence(self, node: str) -> str:
        """A line for the tooltip; empty where there is nothing to say."""
        value = self.value(node)
        if value is None:
            return ""
        mean = "" if self.adds or not node.startswith(MODULE) else ", mean of its layers"
        return f"<br>{self.title}: {value:,.4g}{self.unit}{mean}"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The overlay as a table."""
        return [{"layer": layer, f"{self.title}{self.unit}": round(v, 4)} for layer, v in self.values.items()]


def color_bar(overlay: Overlay) -> go.Scatter:
    """Nothing but the colour bar."""
    size = {"lenmode": "pixels", "len": BAR_PIXELS, "y": 1, "yanchor": "top", "thickness": 12}
    bar = {"title": overlay.title, "ticksuffix": overlay.unit, **size}
    ends = {"cmin": overlay.low, "cmax": overlay.high, "colorscale": overlay.scale, "colorbar": bar}
    marker = {"color": [overlay.low], "showscale": True, "size": 0.1, **ends}
    return base.scatter([None], [None], marker=marker, showlegend=False)
