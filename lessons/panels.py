"""Charts above one another as one figure, put together as plain values and checked by Plotly once: that is fast."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from compression.plots import base, theme

Plain = Mapping[str, Any]
TITLE_PIXELS, TICK_PIXELS = 66, 36  # between two charts: tick labels, with the upper one's axis title or without
TOP, BOTTOM = 50, 52
VIOLET, BROWN = "#7a6fd0", "#a65e2e"
"""A third and a fourth series beside ``theme.ACCENT`` and ``theme.HIGHLIGHT``: no method's colour."""
_AXIS = {"automargin": True, "zeroline": False}


@dataclass(frozen=True)
class Panel:
    """One chart: traces, axes and shapes as Plotly takes them, without the numbers that tell its axes from others.

    ``right``: a second y axis; a trace with ``"right": True`` belongs to it. ``share``: of the height.
    """

    traces: Sequence[Plain]
    x: Plain
    y: Plain
    share: float = 1.0
    right: Plain | None = None
    shapes: Sequence[Plain] = field(default=())
    notes: Sequence[Plain] = field(default=())


def stacked(panels: Sequence[Panel], height: int, **layout: Any) -> go.Figure:
    """The panels from top to bottom with the app's margins; colours of text and grid come from the page's theme."""
    traces: list[dict[str, Any]] = []
    drawn: dict[str, list[dict[str, Any]]] = {"shapes": [], "annotations": []}
    axes: dict[str, Any] = {}
    for number, (panel, domain) in enumerate(zip(panels, _domains(panels, height), strict=True), 1):
        suffix = str(number) if number > 1 else ""  # Plotly's first axes have no number
        x, y, second = f"x{suffix}", f"y{suffix}", f"y{number + 10}"
        axes[f"xaxis{suffix}"] = {**_AXIS, "anchor": y, **panel.x}
        axes[f"yaxis{suffix}"] = {**_AXIS, "anchor": x, "domain": domain, **panel.y}
        if panel.right is not None:
            beside = {"overlaying": y, "side": "right", "anchor": x, "showgrid": False}
            axes[f"yaxis{number + 10}"] = {**_AXIS, **beside, **panel.right}
        for trace in map(dict, panel.traces):
            traces.append({"xaxis": x, "yaxis": second if trace.pop("right", False) else y, **trace})
        drawn["shapes"] += [_placed(shape, x, y) for shape in panel.shapes]
        drawn["annotations"] += [_placed(note, x, y) for note in panel.notes]
    figure = base.figure(height, margin={**base.MARGIN, "t": TOP}, **axes, **drawn, **layout)
    return figure.add_traces(traces)


def _domains(panels: Sequence[Panel], height: int) -> list[list[float]]:
    """Where each panel lies between the bottom (0) and the top (1), room for titles between them."""
    whole = height - TOP - BOTTOM
    gaps = [TITLE_PIXELS if panel.x.get("title") else TICK_PIXELS for panel in panels[:-1]] + [0]
    unit = (whole - sum(gaps)) / sum(panel.share for panel in panels)
    domains, upper = [], float(whole)
    for panel, gap in zip(panels, gaps, strict=True):
        lower = upper - panel.share * unit
        domains.append([max(0.0, lower / whole), upper / whole])
        upper = lower - gap
    return domains


def _placed(item: Plain, x: str, y: str) -> dict[str, Any]:
    """A shape or note on the axes of its panel; along those that it names (as ``domain``) by their length."""
    return {**item, **{ref: f"{axis} domain" if ref in item else axis for ref, axis in (("xref", x), ("yref", y))}}


def layer_axis(names: Sequence[str]) -> dict[str, Any]:
    """An axis of layers, their names cut short (``layer3.0.shortcut.0`` to ``l3.0.short``): a phone has little room."""
    labels = [re.sub(r"\.0$", "", name.replace("layer", "l").replace("shortcut", "short")) for name in names]
    font = {"size": 11}
    return {"type": "category", "tickvals": list(range(len(names))), "ticktext": labels, "tickfont": font}


def upright(at: float, color: str = theme.FAINT, width: float = 1, dash: str = "solid") -> dict[str, Any]:
    """A line from bottom to top of a panel."""
    line = {"color": color, "width": width, "dash": dash}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "domain", "line": line}


def level(at: float, color: str, width: float = 1) -> dict[str, Any]:
    """A line from side to side of a panel."""
    line = {"color": color, "width": width}
    return {"type": "line", "x0": 0, "x1": 1, "xref": "domain", "y0": at, "y1": at, "line": line}


def band(start: float, end: float, color: str) -> dict[str, Any]:
    """A shaded part of a panel, from bottom to top."""
    place = {"x0": start, "x1": end, "y0": 0, "y1": 1, "yref": "domain"}
    return {"type": "rect", **place, "fillcolor": color, "line": {"width": 0}, "layer": "below"}


def line(name: str, x: Iterable[Any], y: Iterable[Any], color: str, **more: Any) -> dict[str, Any]:
    """A line trace; ``width``, ``dash`` and ``shape`` are the line's."""
    style: dict[str, Any] = {key: more.pop(key) for key in ("width", "dash", "shape") if key in more}
    look = {"color": color, "width": 2, **style}
    return {"type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": list(y), "line": look, **more}


def bars(name: str, x: Iterable[Any], y: Iterable[Any], color: str | Sequence[str], **more: Any) -> dict[str, Any]:
    """A bar trace, one colour for all bars or one for each; ``hover``: its tooltip."""
    if "hover" in more:
        more["hovertemplate"] = more.pop("hover") + "<extra></extra>"
    look = {"color": color if isinstance(color, str) else list(color)}
    return {"type": "bar", "name": name, "x": list(x), "y": list(y), "marker": look, **more}


def marks(name: str, x: Iterable[Any], y: Iterable[Any], color: str, size: float, **more: Any) -> dict[str, Any]:
    """A trace of markers; ``symbol``: their shape."""
    look = {"size": size, "color": color, "symbol": more.pop("symbol", "circle")}
    return {"type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y), "marker": look, **more}


def here(x: Any, y: Any, **more: Any) -> dict[str, Any]:
    """The marker of the present values."""
    return marks("you are here", [x], [y], theme.HIGHLIGHT, 13, symbol="diamond", **more)
