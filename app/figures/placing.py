"""The boxes of a drawn graph, each with its place and what is said of it; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app import theme
from app.figures import boxes
from app.figures.boxes import NodeSpot
from app.groups import grouping, layout

LABEL_COLUMNS = 4  # what a whole label may take

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

    points: tuple[layout.Point, ...]
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
