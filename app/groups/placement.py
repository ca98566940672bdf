"""The boxes of a graph, merged and placed: what the drawn graph needs of this package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from app.groups import grouping, layout
from compression.plots.placing import PlacedBoxes


def place(
    graph: Mapping[str, Any],
    level: grouping.Level = grouping.LAYERS,
    opened: Collection[str] = (),
    carrying: Collection[str] | None = None,
) -> PlacedBoxes:
    """Merge and place the nodes of a ``graph`` JSON (arguments as in :func:`app.groups.grouping.outline`)."""
    outline = grouping.outline(graph["nodes"], [(a, b) for a, b in graph["edges"]], level, opened, carrying)
    drawing = layout.layered([box.id for box in outline.boxes], outline.edges)
    return PlacedBoxes(outline.boxes, drawing.places, drawing.paths, drawing.rows, drawing.columns)
