"""The network as a layered picture: what can shrink, what cannot, one group lit up, what was searched ringed."""

from __future__ import annotations

import html
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures import base
from app.figures import boxes
from app.figures.boxes import NodeSpot
from app.figures.overlay import Overlay
from app.figures.overlay import color_bar
from app.groups import grouping
from app.groups import layout

ROW_PIXELS = 34
LEAST_HEIGHT = 320
MOST_LABELS = 1500
WIDEST_LABELLED = 12  # columns
LABEL_COLUMNS = 4  # what a whole label may take
NARROWEST, LETTER, GAP = 330, 5.9, 18  # pixels: a phone's drawing, a letter of a label, from a marker to its label
FOUND = "#b866a0"

# role → name in the legend, marker, its letter in the legend, colour
ROLES = {
    "prunable": ("layer, its channels can be removed", "circle", "●", theme.ACCENT),
    "join": ("passes them on (add, norm, …)", "diamond", "◆", "#5fa8d3"),
    "quantizer": ("quantizer, or an operation of one", "hexagon", "⬢", "#a65e2e"),
    "module": ("module with such layers: click to open", "square", "■", theme.ACCENT),
    "frozen": ("must stay as it is", "x", "✖", theme.MUTED),
    "frozen module": ("module that must stay: click to open", "square", "■", theme.MUTED),
    "plain module": ("module without layers: click to open", "square-open", "□", theme.MUTED),
    "plain": ("input, output, no channels", "triangle-down", "▼", theme.MUTED),
}
LIT, MET = "selected group", "found by the search"


@dataclass(frozen=True)
class Placed:
    """Boxes with their places: what is slow to make and depends on model, detail and opened modules only."""

    outline: grouping.Outline
    layout: layout.Layout


@dataclass(frozen=True)
class Window:
    """The part of the drawing to show, in columns and rows."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Line:
    """The points of an edge; ``lit`` when both its ends carry the selected group."""

    points: tuple[layout.Spot, ...]
    lit: bool = False


@dataclass(frozen=True)
class GraphInfo:
    """Nodes, the lines between them, the size of the drawing in rows and columns, and the part of it to show.

    ``edges`` are the ids of both ends of every line.
    """

    nodes: tuple[NodeSpot, ...]
    lines: tuple[Line, ...]
    rows_high: int
    columns_wide: float
    selected: str | None
    window: Window | None = None
    edges: tuple[layout.Edge, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The drawing as a table: a row for each box, with the boxes that its lines lead to."""
        after: dict[str, list[str]] = {}
        for start, end in self.edges:
            after.setdefault(start, []).append(_name(end))
        return [
            {
                "box": _name(spot.id),
                "label": spot.label,
                "what it is": ROLES[spot.role][0],
                "groups": ", ".join(spot.groups),
                "leads to": ", ".join(after.get(spot.id, ())),
            }
            for spot in self.nodes
        ]


def _name(box: str) -> str:
    return box.removeprefix(grouping.MODULE)


def place(
    graph: Mapping[str, Any],
    level: grouping.Level = grouping.LAYERS,
    opened: Collection[str] = (),
    carrying: Collection[str] | None = None,
) -> Placed:
    """Merge and place the nodes of a ``graph`` JSON (arguments as in ``grouping.outline``)."""
    outline = grouping.outline(graph["nodes"], [(a, b) for a, b in graph["edges"]], level, opened, carrying)
    return Placed(outline, layout.layered([box.id for box in outline.boxes], outline.edges))


def graph_info(
    graph: Mapping[str, Any],
    node_groups: Mapping[str, Sequence[str]],
    placed: Placed | None = None,
    *,
    parameters: Mapping[str, int] | None = None,
    selected: str | None = None,
    search: str = "",
    focus: str = "",
) -> GraphInfo:
    """Say what every box is.

    Args:
        graph: a ``graph`` JSON.
        node_groups: node id → ids of the groups whose units its output carries.
        placed: where the boxes are; layers, joins, input and output when not given.
        parameters: module path → parameters it holds itself.
        selected: the group to light up.
        search: part of a name, kind or ATen name; what it meets is ringed.
        focus: ``group`` or ``search``: show the part of the drawing around what is lit or found.
    """
    placed = placed or place(graph)
    nodes = {node["id"]: node for node in graph["nodes"]}
    facts = boxes.Facts(nodes, {group["id"]: group for group in graph["groups"]}, node_groups, parameters or {})
    places = placed.layout.places
    spots = _apart([boxes.spot(box, places[box.id], facts, selected, search) for box in placed.outline.boxes])
    lit = {s.id for s in spots if s.lit}
    lines = tuple(Line(path, a in lit and b in lit) for (a, b), path in placed.layout.paths.items())
    inside = [s for s in spots if (s.lit if focus == "group" else s.found if focus == "search" else False)]
    drawing, edges = placed.layout, tuple(placed.layout.paths)
    return GraphInfo(spots, lines, drawing.rows, drawing.columns, selected, _window(inside, drawing), edges)


def _apart(spots: Sequence[NodeSpot]) -> tuple[NodeSpot, ...]:
    """Shorter labels for boxes with a neighbour close to their right."""
    rows: dict[float, list[float]] = {}
    for spot in spots:
        rows.setdefault(spot.y, []).append(spot.x)
    close = {s.id for s in spots if any(0 < x - s.x < LABEL_COLUMNS for x in rows[s.y])}
    return tuple(replace(s, label=boxes.brief(s.label)) if s.id in close else s for s in spots)


def _window(spots: Sequence[NodeSpot], drawing: layout.Layout) -> Window | None:
    """Around these markers, one row and one column more on every side."""
    if not spots:
        return None
    xs, ys = [s.x for s in spots], [s.y for s in spots]
    top, bottom = max(min(ys) - 1, 0), min(max(ys) + 1, drawing.rows - 1)
    return Window(max(min(xs) - 1, 0), min(max(xs) + 1, drawing.columns - 1), top, bottom)


def graph_figure(info: GraphInfo, legend: bool = True, overlay: Overlay | None = None) -> go.Figure:
    """Draw the graph from top to bottom, the markers in the colours of their kinds or of an ``overlay``.

    Every marker carries its id, for a module ``module:`` and its path, and then its group ids in ``customdata``.
    """
    overlay = overlay.fitted([node.id for node in info.nodes]) if overlay else None
    window = info.window or Window(0, info.columns_wide - 1, 0, info.rows_high - 1)
    height = max(LEAST_HEIGHT, 60 + ROW_PIXELS * round(window.bottom - window.top + 1))
    seen = [n for n in info.nodes if window.top <= n.y <= window.bottom]
    labels = len(seen) <= MOST_LABELS and window.right - window.left + 1 <= WIDEST_LABELLED
    fig = base.figure(height, uirevision="graph", hovermode="closest", showlegend=legend)
    fig.add_trace(_edges([line for line in info.lines if not line.lit], theme.rgba(theme.MUTED, 0.5), 1.2))
    for role, (name, symbol, _, color) in ROLES.items():
        spots = [n for n in info.nodes if n.role == role and not n.lit]
        fig.add_trace(_nodes(spots, name, symbol, color, labels, overlay))
    if overlay is not None and overlay.values:
        fig.add_trace(color_bar(overlay))
    if any(line.lit for line in info.lines):
        fig.add_trace(_edges([line for line in info.lines if line.lit], theme.rgba(theme.HIGHLIGHT, 0.7), 2.4))
    fig.add_trace(_nodes([n for n in info.nodes if n.lit], LIT, "circle", theme.HIGHLIGHT, labels, None))
    fig.add_trace(_rings([n for n in info.nodes if n.found]))
    left = window.left - 0.6
    right = _room(seen, left) if labels and seen else 0.0
    fig.update_xaxes(visible=False, range=[left, max(right, window.right + 0.5)], fixedrange=True)
    fig.update_yaxes(visible=False, range=[window.bottom + 0.6, window.top - 0.6], fixedrange=True)
    fig.update_layout(margin={"l": 0, "r": 0, "t": 40 if legend else 4, "b": 0}, dragmode=False)
    fig.update_layout(legend={"y": 1.0, "yanchor": "bottom"})
    return fig


def _room(nodes: Sequence[NodeSpot], left: float) -> float:
    """The right end of the columns at which no label is cut off on a phone."""
    shares = [min(0.7, (GAP + LETTER * len(n.label)) / NARROWEST) for n in nodes]
    return max((n.x - share * left) / (1 - share) for n, share in zip(nodes, shares, strict=True))


def legend_html(info: GraphInfo) -> str:
    """The legend as one wrapping line that stays in view while a tall graph scrolls."""
    present = {n.role for n in info.nodes if not n.lit}
    items = [(letter, color, name) for role, (name, _, letter, color) in ROLES.items() if role in present]
    if any(n.lit for n in info.nodes):
        items.append(("◉", theme.HIGHLIGHT, LIT))
    if any(n.found for n in info.nodes):
        items.append(("◯", FOUND, MET))
    spans = "".join(
        f'<span style="white-space:nowrap"><span style="color:{color}" aria-hidden="true">{letter}</span> '
        f"{html.escape(name)}</span>"
        for letter, color, name in items
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:0.1rem 1.1rem;font-size:0.8rem">{spans}</div>'


def _edges(lines: Sequence[Line], color: str, width: float) -> go.Scatter:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for line in lines:
        xs.extend([*(round(x, 2) for x, _ in line.points), None])
        ys.extend([*(round(y, 2) for _, y in line.points), None])
    shown = {"color": color, "width": width}
    return go.Scatter(x=xs, y=ys, mode="lines", line=shown, hoverinfo="skip", showlegend=False)


def _nodes(
    nodes: Sequence[NodeSpot], name: str, symbol: str, color: str, labels: bool, overlay: Overlay | None
) -> go.Scatter:
    lit = name == LIT
    return go.Scatter(
        x=[n.x for n in nodes],
        y=[n.y for n in nodes],
        mode="markers+text" if labels else "markers",
        text=["\u00a0\u00a0" + n.label for n in nodes],
        textposition="middle right",
        textfont={"size": 11},
        name=name,
        showlegend=bool(nodes),
        customdata=[[n.id, *n.groups] for n in nodes],
        hovertext=[n.sentence + (overlay.sentence(n.id) if overlay else "") for n in nodes],
        hoverinfo="text",
        marker={
            "symbol": [ROLES[n.role][1] for n in nodes] if lit else symbol,
            "color": [overlay.color(n.id) for n in nodes] if overlay else color,
            "size": 14 if lit or overlay or symbol.startswith("square") else 10,
            "opacity": 1.0,
            "line": {"width": 5 if lit else 0, "color": theme.rgba(theme.HIGHLIGHT, 0.3)},
        },
        selected={"marker": {"opacity": 1.0}},
        unselected={"marker": {"opacity": 1.0}},
    )


def _rings(nodes: Sequence[NodeSpot]) -> go.Scatter:
    """Rings around what the search met; they take no clicks from what they surround."""
    return go.Scatter(
        x=[n.x for n in nodes],
        y=[n.y for n in nodes],
        mode="markers",
        name=MET,
        showlegend=bool(nodes),
        hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 22, "color": FOUND, "line": {"width": 2.5}},
        selected={"marker": {"opacity": 1.0}},
        unselected={"marker": {"opacity": 1.0}},
    )
