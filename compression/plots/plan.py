"""What a budget gives before any training: bytes per layer, dense and planned, on one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compression.plots import base, theme
from compression.plots.base import go

MOST_ROWS = 30


@dataclass(frozen=True)
class LayerPlan:
    """One layer: bytes of its fp32 weights, planned bytes at the low and the high end, and what is planned in words."""

    layer: str
    dense: float
    low: float
    high: float
    sentence: str


@dataclass(frozen=True)
class PlanInfo:
    """Layers in the order of the network; beyond 30 the smallest are summed up in one row."""

    layers: tuple[LayerPlan, ...]
    method: str


def plan_info(layers: Sequence[LayerPlan], method: str) -> PlanInfo:
    """Keep the largest layers and sum up the rest."""
    if len(layers) <= MOST_ROWS:
        return PlanInfo(tuple(layers), method)
    biggest = {p.layer for p in sorted(layers, key=lambda p: -p.dense)[: MOST_ROWS - 1]}
    rest = [p for p in layers if p.layer not in biggest]
    total = LayerPlan(
        f"{len(rest)} smaller layers",
        sum(p.dense for p in rest),
        sum(p.low for p in rest),
        sum(p.high for p in rest),
        f"{len(rest)} smaller layers together",
    )
    return PlanInfo((*(p for p in layers if p.layer in biggest), total), method)


def plan_figure(info: PlanInfo) -> go.Figure:
    """A row per layer: the dense layer as a star, the plan as a bar from low to high in the method's colour."""
    look, dense = theme.style(info.method), theme.style(theme.DENSE)
    names, texts = [p.layer for p in info.layers], [p.sentence for p in info.layers]
    low, high, whole = ([max(getattr(p, end), 1.0) for p in info.layers] for end in ("low", "high", "dense"))
    fig = base.figure(110 + 24 * len(names), uirevision="plan", hovermode="closest")
    fig.add_trace(base.segments(low, whole, names, line={"color": theme.FAINT, "width": 1}))
    fig.add_trace(base.segments(low, high, names, line={"color": look.color, "width": 6}))
    middle = [math.sqrt(a * b) for a, b in zip(low, high, strict=True)]
    for xs, name, style, size in ((middle, f"planned, {look.label}", look, 10), (whole, "dense, fp32", dense, 11)):
        marker = {"color": style.color, "symbol": style.symbol, "size": size}
        fig.add_trace(base.scatter(xs, names, name=name, marker=marker, hovertext=texts))
    values = [*low, *whole]
    base.log_axis(fig, values, "bytes of the layer's weights", ends=base.log_ends(values))
    fig.update_yaxes(autorange="reversed", showgrid=True)
    return fig
