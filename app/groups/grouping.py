"""How much of a graph is drawn: operations merged by module path into boxes, so that 1,000 nodes stay readable.

A box is one operation, or one module with everything in it. Modules that run twice are split into their visits where
one box for all of them would create a cycle, so that the drawing remains a graph from top to bottom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.groups import layout

MOST_BOXES = 120  # drawn by default
MOST_TRACED = 400  # drawn by default with every operation of the quantizers
KEPT_KINDS = frozenset({"input", "output", "conv", "linear"})  # and every box where several paths meet
MODULE = "module:"  # prefix of the id of a box that is a module

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Level:
    """A detail: ``depth`` parts of module paths stay apart (``None``: nothing merged); ``every_op`` hides nothing."""

    depth: int | None = None
    every_op: bool = False

    @property
    def key(self) -> str:
        """A short name for addresses and caches."""
        return "every" if self.every_op else "layers" if self.depth is None else f"blocks{self.depth}"


LAYERS = Level()
EVERY_OP = Level(every_op=True)


@dataclass(frozen=True)
class Box:
    """The operations of one marker: ``path`` is the module's, ``None`` for a single operation."""

    id: str
    members: tuple[str, ...]
    path: str | None = None


@dataclass(frozen=True)
class Outline:
    """The boxes that are drawn, in the order of the network, and the edges between them."""

    boxes: tuple[Box, ...]
    edges: tuple[layout.Edge, ...]


def outline(
    nodes: Sequence[Node],
    edges: Sequence[layout.Edge],
    level: Level,
    opened: Collection[str] = (),
    carrying: Collection[str] | None = None,
) -> Outline:
    """Merge the operations of a graph into boxes.

    Args:
        nodes: the nodes of a ``graph`` JSON, in the order they ran.
        edges: (from, to), node ids.
        level: how far modules are merged.
        opened: module paths that are shown in parts although the level would merge them.
        carrying: ids of the nodes that units flow through; joins of nothing but masks and positions are omitted.
    """
    modules = [_module(node, level.depth, frozenset(opened)) for node in nodes]
    number = _merged(nodes, edges, modules)
    boxes = _boxes(nodes, modules, number)
    of_node = {member: box.id for box in boxes for member in box.members}
    between = list(dict.fromkeys((of_node[a], of_node[b]) for a, b in edges if of_node[a] != of_node[b]))
    keep = {box.id for box in boxes} if level.every_op else _essential(nodes, boxes, between, carrying)
    shown, links = layout.collapse([box.id for box in boxes], between, keep)
    by_id = {box.id: box for box in boxes}
    return Outline(tuple(by_id[i] for i in shown), tuple(dict.fromkeys(links)))


def levels(
    nodes: Sequence[Node], edges: Sequence[layout.Edge], carrying: Collection[str] | None = None
) -> dict[Level, int]:
    """The details worth offering, coarse to fine, with the number of boxes each draws."""
    finest = len(outline(nodes, edges, LAYERS, (), carrying).boxes)
    counts: dict[Level, int] = {}
    for depth in range(1, max((len(_parts(node)) for node in nodes), default=0) + 1):
        boxes = outline(nodes, edges, Level(depth), (), carrying).boxes
        if len(boxes) < finest and len(boxes) not in counts.values() and any(box.path for box in boxes):
            counts[Level(depth)] = len(boxes)
    return {**counts, LAYERS: finest, EVERY_OP: len(nodes)}


def default_level(counts: Mapping[Level, int], most: int = MOST_BOXES) -> Level:
    """The finest detail that stays readable, of at most so many boxes; the coarsest where none does."""
    fitting = [level for level, count in counts.items() if count <= most and not level.every_op]
    return fitting[-1] if fitting else next(iter(counts))


def _parts(node: Node) -> tuple[str, ...]:
    return tuple(node["module"].split(".")) if node["module"] else ()


def _module(node: Node, depth: int | None, opened: frozenset[str]) -> str | None:
    """The path of the module that this operation is merged into; ``None`` if it is a separate box."""
    parts = _parts(node)
    if depth is None or len(parts) < depth:
        return None
    while ".".join(parts[:depth]) in opened:
        if depth == len(parts):
            return None
        depth += 1
    return ".".join(parts[:depth])


def _merged(nodes: Sequence[Node], edges: Sequence[layout.Edge], modules: Sequence[str | None]) -> list[int]:
    """The number of every node's box: one per module, or one per visit where one box would create a cycle."""
    import networkx as nx

    place = {node["id"]: i for i, node in enumerate(nodes)}
    visits = _visits(modules)
    first: dict[str | None, int] = {}
    number = [i if module is None else first.setdefault(module, i) for i, module in enumerate(modules)]
    while True:
        graph = nx.DiGraph((number[place[a]], number[place[b]]) for a, b in edges)
        graph.remove_edges_from(list(nx.selfloop_edges(graph)))
        circles = set().union(*(c for c in nx.strongly_connected_components(graph) if len(c) > 1))
        separated = [visits[i] if n in circles else n for i, n in enumerate(number)]
        if separated == number:
            return number
        number = separated


def _visits(modules: Sequence[str | None]) -> list[int]:
    """Runs of operations of one module: the place of the first one of each."""
    first: list[int] = []
    for i, module in enumerate(modules):
        first.append(first[-1] if i and module is not None and module == modules[i - 1] else i)
    return first


def _boxes(nodes: Sequence[Node], modules: Sequence[str | None], number: Sequence[int]) -> list[Box]:
    members: dict[int, list[int]] = {}
    for i, n in enumerate(number):
        members.setdefault(n, []).append(i)
    visits: Counter[str] = Counter()
    boxes = []
    for first, inside in members.items():
        path = modules[first]
        if path is None or len(inside) == 1:
            boxes.append(Box(nodes[first]["id"], (nodes[first]["id"],)))
            continue
        visits[path] += 1
        name = MODULE + path + (f"#{visits[path]}" if visits[path] > 1 else "")
        boxes.append(Box(name, tuple(nodes[i]["id"] for i in inside), path))
    return boxes


def _essential(
    nodes: Sequence[Node], boxes: Sequence[Box], edges: Sequence[layout.Edge], carrying: Collection[str] | None
) -> set[str]:
    """Boxes with layers, quantizers, input, output, and those where several paths of units meet."""
    by_id = {node["id"]: node for node in nodes}
    meeting = Counter(end for _, end in edges)

    def matters(box: Box) -> bool:
        return any(
            by_id[m]["kind"] in KEPT_KINDS or by_id[m].get("layer") or by_id[m].get("branch") for m in box.members
        )

    def joins(box: Box) -> bool:
        return meeting[box.id] > 1 and (carrying is None or any(m in carrying for m in box.members))

    return {box.id for box in boxes if joins(box) or matters(box)}
