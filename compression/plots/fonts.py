"""A figure for a wall: its texts, and the room for them, larger at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compression.plots.base import go as graph_objects

if TYPE_CHECKING:
    import plotly.graph_objects as go


def enlarged(fig: go.Figure, factor: float) -> go.Figure:
    """A figure ``factor`` times as high, as are its texts of a size of their own; sizes of a theme stay the theme's."""
    larger = graph_objects.Figure(_enlarged(fig.to_plotly_json(), factor))
    return larger.update_layout(height=fig.layout.height and fig.layout.height * factor)


def _enlarged(part: Any, factor: float, name: str = "") -> Any:
    if isinstance(part, dict):
        grown = {key: _enlarged(value, factor, key) for key, value in part.items()}
        if name.endswith("font") and isinstance(part.get("size"), (int, float)):
            grown["size"] = part["size"] * factor
        return grown
    return [_enlarged(value, factor) for value in part] if isinstance(part, list) else part
