"""What flows into an operation of a graph, for the sentences about ties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.groups import grouping


class Sources:
    """Looks up what flows into an operation, past reshapes, norms and activations."""

    def __init__(self, graph: Mapping[str, Any]) -> None:
        """Reads a ``graph`` JSON once."""
        self._nodes = {node["id"]: node for node in graph["nodes"]}
        self._rank = {node: i for i, node in enumerate(self._nodes)}
        self._before: dict[str, list[str]] = {}
        for start, end in graph["edges"]:
            self._before.setdefault(end, []).append(start)
        incoming = Counter(end for _, end in graph["edges"])
        self._named = {
            i
            for i, node in self._nodes.items()
            if node["kind"] in grouping.KEPT_KINDS or node.get("layer") or incoming[i] > 1
        }

    def into(self, op: str) -> tuple[str, ...]:
        """The layers and joins whose outputs reach a node, nearest first."""
        named: set[str] = set()
        visited: set[str] = set()
        queue = list(self._before.get(op, ()))
        while queue:
            node = queue.pop()
            if node in visited:
                continue
            visited.add(node)
            if node in self._named:
                named.add(node)
            else:
                queue.extend(self._before.get(node, ()))
        return tuple(sorted(named, key=self._rank.__getitem__, reverse=True))

    def visible(self, place: str, nodes: Sequence[str]) -> str | None:
        """The node to name for a reason at ``place``: of an output, the one of ``nodes`` that leads to it."""
        if self._nodes.get(place, {}).get("op") == "output":
            return next((node for node in nodes if node in self._before.get(place, ())), None)
        return place if place in self._nodes else None
