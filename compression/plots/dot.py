"""The whole graph in Graphviz's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def dot(graph: Mapping[str, Any], node_groups: Mapping[str, Sequence[str]]) -> str:
    """Every operation of a ``graph`` JSON, each labelled with its groups."""
    lines = ["digraph network {", '  node [shape=box, fontname="Helvetica"];']
    for node in graph["nodes"]:
        label = "\\n".join([_quoted(node["id"]), node["kind"], *(_quoted(g) for g in node_groups.get(node["id"], ()))])
        lines.append(f'  "{_quoted(node["id"])}" [label="{label}"];')
    lines += [f'  "{_quoted(a)}" -> "{_quoted(b)}";' for a, b in graph["edges"]]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
