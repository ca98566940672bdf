"""Places for the nodes of a graph: layers from top to bottom, few crossings, long edges bent around nodes.

fast-sugiyama does it in milliseconds; where its wheel is missing, networkx places each topological generation on a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

Edge = tuple[str, str]
Point = tuple[float, float]

CROWDED = 3  # lines passing an average row from which on long edges are drawn as arcs beside the graph
LONG = 1  # such an edge spans more rows than this
ARC_STEPS = 12
ARC_COLUMNS = 5.0


@dataclass(frozen=True)
class GraphLayout:
    """``places``: node → (column, row), row 0 at the top. ``paths``: edge → the points of its line."""

    places: dict[str, Point]
    paths: dict[Edge, tuple[Point, ...]]

    def moved(self, move: Callable[[Point], Point]) -> GraphLayout:
        """The same drawing with every point moved."""
        places = {node: move(point) for node, point in self.places.items()}
        return GraphLayout(places, {edge: tuple(map(move, path)) for edge, path in self.paths.items()})

    @property
    def rows(self) -> int:
        """How many rows the drawing has."""
        return round(max((y for _, y in self.places.values()), default=0)) + 1

    @property
    def columns(self) -> float:
        """How wide the drawing is, in columns."""
        xs = [x for path in self.paths.values() for x, _ in path] + [x for x, _ in self.places.values()]
        return max(xs, default=0.0) - min(xs, default=0.0) + 1


def collapse(nodes: Sequence[str], edges: Sequence[Edge], retained: Collection[str]) -> tuple[list[str], list[Edge]]:
    """Remove nodes and reconnect around them, so that activations and norms do not crowd the picture.

    Returns:
        The retained nodes in order, and an edge for each path between two of them through removed nodes only.
    """
    import networkx as nx

    sources: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end in edges:
        sources.setdefault(end, []).append(start)
    reach: dict[str, tuple[str, ...]] = {}  # removed node → the retained nodes that lead into it
    links: list[Edge] = []
    for node in nx.topological_sort(_graph(nodes, edges)):
        origins = dict.fromkeys(o for s in sources[node] for o in ((s,) if s in retained else reach.get(s, ())))
        if node in retained:
            links.extend((origin, node) for origin in origins)
        else:
            reach[node] = tuple(origins)
    return [node for node in nodes if node in retained], links


def layered(nodes: Sequence[str], edges: Sequence[Edge]) -> GraphLayout:
    """Place the nodes of a directed acyclic graph in rows; each of several sources is close to its first reader.

    Where so many edges pass by that they would pull the rows apart (every layer reading all before it), the long ones
    become arcs at the left.
    """
    edges = list(dict.fromkeys(edges))
    if len({start for start, _ in edges} - {end for _, end in edges}) <= 1:
        return _from_the_top(nodes, edges)
    reversed_ = _from_the_top(nodes[::-1], [(end, start) for start, end in edges])
    lowest = max((y for _, y in reversed_.places.values()), default=0.0)
    mirrored = reversed_.moved(lambda point: (point[0], lowest - point[1]))
    return GraphLayout(mirrored.places, {(b, a): path[::-1] for (a, b), path in mirrored.paths.items()})


def _from_the_top(nodes: Sequence[str], edges: Sequence[Edge]) -> GraphLayout:
    """Every node as far up as what leads to it allows."""
    edges, arcs = _long_edges(nodes, edges)
    linked = {node for edge in edges for node in edge}
    alone = [node for node in nodes if node not in linked]
    try:
        layout = _sugiyama(nodes, edges) if edges else GraphLayout({}, {})
    except ImportError:
        layout = _generations(nodes, edges)
    for i, node in enumerate(alone):
        layout.places[node] = (layout.columns + i, 0.0)
    return _with_arcs(layout, arcs)


def _long_edges(nodes: Sequence[str], edges: Sequence[Edge]) -> tuple[list[Edge], list[Edge]]:
    """The edges of the layered drawing, and the long ones that are drawn as arcs.

    Every node has an edge from the row above it, so that removing the long ones moves nothing.
    """
    import networkx as nx

    generations = nx.topological_generations(_graph(nodes, edges))
    row = {node: number for number, generation in enumerate(generations) for node in generation}
    passing = sum(row[end] - row[start] - 1 for start, end in edges)
    if passing <= CROWDED * (max(row.values(), default=0) + 1):
        return list(edges), []
    arcs = {edge for edge in edges if row[edge[1]] - row[edge[0]] > LONG}
    return [edge for edge in edges if edge not in arcs], [edge for edge in edges if edge in arcs]


def _with_arcs(layout: GraphLayout, arcs: Sequence[Edge]) -> GraphLayout:
    """Add the long edges as arcs and move the drawing to column 0: arcs over more rows are wider."""
    if not arcs:
        return layout
    leftmost = min(x for x, _ in layout.places.values())
    longest = max(abs(layout.places[b][1] - layout.places[a][1]) for a, b in arcs)
    paths = layout.paths
    for start, end in arcs:
        (x0, y0), (x1, y1) = layout.places[start], layout.places[end]
        swing = ARC_COLUMNS * math.sqrt(abs(y1 - y0) / max(longest, 1.0))
        bent = ((x0, y0), (leftmost - swing, y0), (leftmost - swing, y1), (x1, y1))
        paths[start, end] = tuple(_bezier(bent, i / ARC_STEPS) for i in range(ARC_STEPS + 1))
    least = min(x for path in paths.values() for x, _ in path)
    return layout.moved(lambda point: (point[0] - least, point[1]))


def _bezier(corners: Sequence[Point], t: float) -> Point:
    """A point at ``t`` in 0..1 of the cubic Bézier curve with these four corners."""
    parts = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x = sum(part * corner[0] for part, corner in zip(parts, corners, strict=True))
    return x, sum(part * corner[1] for part, corner in zip(parts, corners, strict=True))


def _graph(nodes: Sequence[str], edges: Sequence[Edge]) -> nx.DiGraph:
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(edges)
    return graph


def _sugiyama(nodes: Sequence[str], edges: Sequence[Edge]) -> GraphLayout:
    import fast_sugiyama

    index = {node: i for i, node in enumerate(nodes)}
    numbered = [(index[a], index[b]) for a, b in edges]
    places: dict[str, Point] = {}
    paths: dict[Edge, tuple[Point, ...]] = {}
    offset = 0.0
    components: Any = fast_sugiyama.from_edges(numbered, minimum_length=1, vertex_spacing=1.0, dummy_vertices=True)
    for vertices, _, _, links in components:
        raw = dict(vertices)
        columns, rows = _ranks([x for x, _ in raw.values()]), _ranks([-y for _, y in raw.values()])
        grid = {key: (offset + columns[_round(x)], float(rows[_round(-y)])) for key, (x, y) in raw.items()}
        places.update({nodes[key]: point for key, point in grid.items() if key < len(nodes)})
        paths.update(_join(links, grid, nodes))
        offset = 1 + max(x for x, _ in grid.values())
    return GraphLayout(places, paths)


def _round(value: float) -> float:
    return round(value, 3)


def _ranks(values: list[float]) -> dict[float, float]:
    """Positions in steps: equal gaps between rows; columns keep their relative distances, the smallest gap being 1."""
    distinct = sorted({_round(v) for v in values})
    gaps = [b - a for a, b in pairwise(distinct)]
    unit = max(min(gaps, default=1.0), 1e-3)
    return {v: min((v - distinct[0]) / unit, float(i) * 1.5) for i, v in enumerate(distinct)}


def _join(
    links: Sequence[tuple[int, int]], grid: dict[int, Point], nodes: Sequence[str]
) -> dict[Edge, tuple[Point, ...]]:
    """Chains of dummy vertices become one bent line from a real node to a real node."""
    after = {a: b for a, b in links if a >= len(nodes)}
    paths: dict[Edge, tuple[Point, ...]] = {}
    for start, step in links:
        if start >= len(nodes):
            continue
        path = [grid[start], grid[step]]
        while step >= len(nodes):
            step = after[step]
            path.append(grid[step])
        paths[nodes[start], nodes[step]] = tuple(path)
    return paths


def _generations(nodes: Sequence[str], edges: Sequence[Edge]) -> GraphLayout:
    import networkx as nx

    graph = nx.DiGraph(edges)
    places: dict[str, Point] = {}
    for row, members in enumerate(nx.topological_generations(graph)):
        ordered = sorted(members, key=nodes.index)
        for i, node in enumerate(ordered):
            places[node] = (i - (len(ordered) - 1) / 2, float(row))
    return GraphLayout(places, {edge: (places[edge[0]], places[edge[1]]) for edge in edges})
