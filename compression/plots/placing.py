"""The boxes of a drawn graph, each with its place and its description; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compression.plots import boxes, theme
from compression.plots.boxes import MODULE, NodeMark, Point

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


Edge = tuple[str, str]


@dataclass(frozen=True)
class PlacedBoxes:
    """Boxes with their places and lines: slow to compute, and a function of model, detail and opened modules only.

    ``rows`` and ``columns`` are the size of the drawing.
    """

    boxes: Sequence[boxes.Box]
    places: Mapping[str, Point]
    paths: Mapping[Edge, tuple[Point, ...]]
    rows: int
    columns: float


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

    points: tuple[Point, ...]
    lit: bool = False


@dataclass(frozen=True)
class GraphInfo:
    """Nodes, the lines between them, the size of the drawing in rows and columns, and the part of it to show.

    ``edges`` are the ids of both ends of every line.
    """

    nodes: tuple[NodeMark, ...]
    lines: tuple[Line, ...]
    rows_high: int
    columns_wide: float
    selected: str | None
    window: Window | None = None
    edges: tuple[Edge, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The drawing as a table: a row for each box, with the boxes that its lines lead to."""
        after: dict[str, list[str]] = {}
        for start, end in self.edges:
            after.setdefault(start, []).append(_name(end))
        return [
            {
                "box": _name(mark.id),
                "label": mark.label,
                "what it is": ROLES[mark.role][0],
                "groups": ", ".join(mark.groups),
                "leads to": ", ".join(after.get(mark.id, ())),
            }
            for mark in self.nodes
        ]


def _name(box: str) -> str:
    return box.removeprefix(MODULE)


def graph_info(
    graph: Mapping[str, Any],
    node_groups: Mapping[str, Sequence[str]],
    placed: PlacedBoxes,
    *,
    parameters: Mapping[str, int] | None = None,
    selected: str | None = None,
    search: str = "",
    focus: str = "",
    hit: int | None = None,
) -> GraphInfo:
    """Describe every box.

    Args:
        graph: a ``graph`` JSON.
        node_groups: node id → ids of the groups whose units its output carries.
        placed: the boxes and their places.
        parameters: module path → parameters it holds itself.
        selected: the group to light up.
        search: part of a name, kind or ATen name; what it matches is ringed.
        focus: ``group`` or ``search``: show the part of the drawing around what is lit or matched.
        hit: with ``search``, around which of the matches alone, counted from 0 and from the beginning again.
    """
    nodes = {node["id"]: node for node in graph["nodes"]}
    facts = boxes.Facts(nodes, {group["id"]: group for group in graph["groups"]}, node_groups, parameters or {})
    marks = [boxes.node_mark(box, placed.places[box.id], facts, selected, search) for box in placed.boxes]
    marks = _shortened(marks)
    lit = {mark.id for mark in marks if mark.lit}
    lines = tuple(Line(path, a in lit and b in lit) for (a, b), path in placed.paths.items())
    inside = [m for m in marks if (m.lit if focus == "group" else m.matched if focus == "search" else False)]
    if hit is not None and focus == "search" and inside:
        inside = [inside[hit % len(inside)]]
    edges = tuple(placed.paths)
    return GraphInfo(tuple(marks), lines, placed.rows, placed.columns, selected, _window(inside, placed), edges)


def _shortened(marks: Sequence[NodeMark]) -> list[NodeMark]:
    """Shorter labels for boxes with a neighbour close to their right."""
    rows: dict[float, list[float]] = {}
    for mark in marks:
        rows.setdefault(mark.y, []).append(mark.x)
    close = {m.id for m in marks if any(0 < x - m.x < LABEL_COLUMNS for x in rows[m.y])}
    return [replace(m, label=boxes.brief(m.label)) if m.id in close else m for m in marks]


def _window(marks: Sequence[NodeMark], placed: PlacedBoxes) -> Window | None:
    """Around these markers, one row and one column more on every side."""
    if not marks:
        return None
    xs, ys = [m.x for m in marks], [m.y for m in marks]
    top, bottom = max(min(ys) - 1, 0), min(max(ys) + 1, placed.rows - 1)
    return Window(max(min(xs) - 1, 0), min(max(xs) + 1, placed.columns - 1), top, bottom)
