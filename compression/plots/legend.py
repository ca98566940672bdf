"""Entries of a legend in full colour, whatever the markers of the chart look like."""

from __future__ import annotations

from compression.plots.base import go
from compression.plots.theme import Style

SIZE = 12


def entry(look: Style) -> go.Scatter:
    """A trace without points that stands for a method; the method's own trace has its ``legendgroup``.

    Plotly gives an entry the look of a trace's first point: where that one is faint, the method would look disabled.
    """
    marker = {"color": look.color, "symbol": look.symbol, "size": SIZE}
    return go.Scatter(
        x=[None], y=[None], mode="markers", name=look.label, legendgroup=look.label, marker=marker, hoverinfo="skip"
    )
