"""The network as a layered picture: what can shrink, what cannot, and one group lit up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import layout
from app import theme
from app import words
from app.figures import base

ROW_PIXELS = 34
MOST_LABELS = 260

# role → name in the legend, marker, colour
ROLES = {
    "prunable": ("its channels can be removed", "circle", theme.ACCENT),
    "join": ("passes them on (add, norm, …)", "diamond", "#5fa8d3"),
    "frozen": ("must stay as it is", "x", theme.MUTED),
    "plain": ("input, output, no channels", "triangle-down", theme.MUTED),
}


@dataclass(frozen=True)
class NodeSpot:
    """One node on the page; ``lit`` when it carries the selected group."""

    id: str
    x: float
    y: float
    role: str
    label: str
    groups: tuple[str, ...]
    sentence: str
    lit: bool


@dataclass(frozen=True)
class GraphInfo:
    """Nodes, the lines between them, and the size of the drawing in rows and columns."""

    nodes: tuple[NodeSpot, ...]
    lines: tuple[tuple[layout.Spot, ...], ...]
    rows_high: int
    columns_wide: float
    selected: str | None


def graph_info(
    graph: Mapping[str, Any],
    node_groups: Mapping[str, Sequence[str]],
    *,
    every_op: bool = False,
    selected: str | None = None,
) -> GraphInfo:
    """Place the nodes of a ``graph`` JSON and say what each one is.

    Args:
        node_groups: node id → ids of the groups whose units its output carries.
        every_op: draw every operation; otherwise layers, joins, input and output only.
        selected: the group to light up.
    """
    nodes = {node["id"]: node for node in graph["nodes"]}
    edges = [(a, b) for a, b in graph["edges"]]
    keep = set(nodes) if every_op else _essential(nodes, edges)
    shown, links = layout.collapse(list(nodes), edges, keep)
    placed = layout.layered(shown, links)
    groups = {group["id"]: group for group in graph["groups"]}
    spots = tuple(
        _spot(nodes[i], placed.places[i], [groups[g] for g in node_groups.get(i, ()) if g in groups], selected)
        for i in shown
    )
    return GraphInfo(spots, tuple(placed.paths.values()), placed.rows, placed.columns, selected)


def graph_figure(info: GraphInfo) -> go.Figure:
    """Draw the graph from top to bottom; every node carries its id and then its group ids in ``customdata``."""
    fig = base.figure(
        max(320, 60 + ROW_PIXELS * info.rows_high), uirevision="graph", dragmode="pan", hovermode="closest"
    )
    fig.add_trace(_edges(info))
    labels = len(info.nodes) <= MOST_LABELS and info.columns_wide <= 9
    for role, (name, symbol, color) in ROLES.items():
        fig.add_trace(_nodes([n for n in info.nodes if n.role == role and not n.lit], name, symbol, color, labels))
    fig.add_trace(_nodes([n for n in info.nodes if n.lit], "selected group", "circle", theme.HIGHLIGHT, labels))
    right = 2.2 if labels else 0.5
    fig.update_xaxes(visible=False, range=[-0.6, info.columns_wide - 1 + right], fixedrange=True)
    fig.update_yaxes(visible=False, range=[info.rows_high - 0.4, -0.6], fixedrange=True)
    fig.update_layout(margin={"l": 0, "r": 0, "t": 40, "b": 0}, legend={"y": 1.0, "yanchor": "bottom"}, dragmode=False)
    return fig


def _essential(nodes: Mapping[str, Mapping[str, Any]], edges: Sequence[layout.Edge]) -> set[str]:
    """Layers, input, output, and the nodes where several paths meet."""
    meeting = Counter(end for _, end in edges)
    return {i for i, n in nodes.items() if n["kind"] in layout.KEPT_KINDS or n.get("layer") or meeting[i] > 1}


def _spot(
    node: Mapping[str, Any], place: layout.Spot, groups: Sequence[Mapping[str, Any]], selected: str | None
) -> NodeSpot:
    role = _role(node, groups)
    ids = tuple(group["id"] for group in groups)
    units = " + ".join(str(group["units"]) for group in groups)
    label = f"{node['id']}  {units}" if groups else str(node["id"])
    return NodeSpot(
        node["id"], *place, role, label, ids, _sentence(node, groups), selected is not None and selected in ids
    )


def _role(node: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> str:
    if not groups:
        return "plain"
    if not any(group["prunable"] for group in groups):
        return "frozen"
    return "prunable" if node.get("layer") else "join"


def _sentence(node: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"<b>{node['id']}</b>", f"{node['kind']}, output {words.shape(node['shape'])}"]
    for group in groups[:4]:
        state = "can be removed" if group["prunable"] else f"must stay: {group['reason'] or 'not prunable'}"
        lines.append(f"group {group['id']}: {words.plural(group['units'], 'unit')}, {state}")
    if len(groups) > 4:
        lines.append(f"and {len(groups) - 4} more groups")
    return "<br>".join(lines)


def _edges(info: GraphInfo) -> go.Scatter:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for line in info.lines:
        xs.extend([*(x for x, _ in line), None])
        ys.extend([*(y for _, y in line), None])
    color = theme.rgba(theme.MUTED, 0.55)
    return go.Scatter(x=xs, y=ys, mode="lines", line={"color": color, "width": 1.2}, hoverinfo="skip", showlegend=False)


def _nodes(nodes: Sequence[NodeSpot], name: str, symbol: str, color: str, labels: bool) -> go.Scatter:
    lit = name == "selected group"
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
        hovertext=[n.sentence for n in nodes],
        hoverinfo="text",
        marker={
            "symbol": [ROLES[n.role][1] for n in nodes] if lit else symbol,
            "color": color,
            "size": 16 if lit else 10,
            "opacity": 1.0,
            "line": {"width": 5 if lit else 0, "color": theme.rgba(theme.HIGHLIGHT, 0.3)},
        },
        selected={"marker": {"opacity": 1.0}},
        unselected={"marker": {"opacity": 1.0}},
    )


def dot(graph: Mapping[str, Any], node_groups: Mapping[str, Sequence[str]]) -> str:
    """The whole graph in Graphviz's language, each node labelled with its groups."""
    lines = ["digraph network {", '  node [shape=box, fontname="Helvetica"];']
    for node in graph["nodes"]:
        label = "\\n".join([_quoted(node["id"]), node["kind"], *(_quoted(g) for g in node_groups.get(node["id"], ()))])
        lines.append(f'  "{_quoted(node["id"])}" [label="{label}"];')
    lines += [f'  "{_quoted(a)}" -> "{_quoted(b)}";' for a, b in graph["edges"]]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
