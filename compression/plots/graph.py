"""The network as a layered picture: what can shrink, what cannot, one group lit up, what the search matched ringed."""

from __future__ import annotations

import html
from collections.abc import Sequence

from compression.plots import base, theme
from compression.plots.base import go
from compression.plots.boxes import NodeMark
from compression.plots.overlay import Overlay, color_bar
from compression.plots.placing import ROLES, GraphInfo, Line, Window

ROW_PIXELS = 34
LEAST_HEIGHT = 320
MOST_LABELS = 1500
WIDEST_LABELLED = 12  # columns
NARROWEST, LETTER, GAP = 330, 5.9, 18  # pixels: a phone's drawing, a letter of a label, from a marker to its label
RING = "#b866a0"

LIT, MATCHED = "selected group", "found by the search"


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
    fig.add_trace(_rings([n for n in info.nodes if n.matched]))
    left = window.left - 0.6
    right = _room(seen, left) if labels and seen else 0.0
    fig.update_xaxes(
        visible=False,
        range=[left, max(right, window.right + 0.5)],
    )
    fig.update_yaxes(visible=False, range=[window.bottom + 0.6, window.top - 0.6])
    fig.update_layout(margin={"l": 0, "r": 0, "t": 40 if legend else 4, "b": 0}, dragmode="pan")
    fig.update_layout(legend={"y": 1.0, "yanchor": "bottom"})
    return fig


def _room(nodes: Sequence[NodeMark], start: float) -> float:
    """The right end of the columns at which no label is cut off on a phone."""
    shares = [min(0.7, (GAP + LETTER * len(n.label)) / NARROWEST) for n in nodes]
    return max((n.x - share * start) / (1 - share) for n, share in zip(nodes, shares, strict=True))


def legend_html(info: GraphInfo) -> str:
    """The legend as one wrapping line that stays in view while a tall graph scrolls."""
    present = {n.role for n in info.nodes if not n.lit}
    items = [(letter, color, name) for role, (name, _, letter, color) in ROLES.items() if role in present]
    if any(n.lit for n in info.nodes):
        items.append(("◉", theme.HIGHLIGHT, LIT))
    if any(n.matched for n in info.nodes):
        items.append(("◯", RING, MATCHED))
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
    return base.scatter(xs, ys, "lines", line=shown, showlegend=False)


def _nodes(
    nodes: Sequence[NodeMark], name: str, symbol: str, color: str, labels: bool, overlay: Overlay | None
) -> go.Scatter:
    lit = name == LIT
    return go.Scatter(
        x=[n.x for n in nodes],
        y=[n.y for n in nodes],
        mode="markers+text" if labels else "markers",
        text=["\u00a0" * (5 if n.matched else 2) + n.label for n in nodes],
        textposition="middle right",
        textfont={"size": 11},
        name=name,
        showlegend=bool(nodes),
        customdata=[[n.id, *n.groups] for n in nodes],
        hovertext=base.tooltips([n.sentence + (overlay.sentence(n.id) if overlay else "") for n in nodes]),
        hoverinfo="text",
        marker={
            "symbol": [ROLES[n.role][1] for n in nodes] if lit else symbol,
            "color": [overlay.color(n.id) for n in nodes] if overlay else color,
            "size": 14 if lit or overlay or symbol.startswith("square") else 10,
            "opacity": 1.0,
            "line": {"width": 5 if lit else 0, "color": theme.rgba(theme.HIGHLIGHT, 0.3)},
        },
        **base.STEADY,
    )


def _rings(nodes: Sequence[NodeMark]) -> go.Scatter:
    """Rings around what the search matched; they take no clicks from what they surround."""
    xs, ys = [n.x for n in nodes], [n.y for n in nodes]
    marker = {"symbol": "circle-open", "size": 22, "color": RING, "line": {"width": 2.5}}
    return base.scatter(xs, ys, name=MATCHED, showlegend=bool(nodes), marker=marker, **base.STEADY)
