"""What a budget gives before any training: bytes per layer, dense and planned, on one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app import theme
from app.figures import base

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
    look, dense = theme.style(info.method), theme.style("dense")
    fig = base.figure(110 + 24 * len(info.layers), uirevision="plan", hovermode="closest")
    fig.add_trace(_lines(info, "low", "dense", theme.FAINT, 1, False))
    fig.add_trace(_lines(info, "low", "high", look.color, 6, False))
    middle = [math.sqrt(max(p.low, 1.0) * max(p.high, 1.0)) for p in info.layers]
    fig.add_trace(_markers(info, middle, f"planned, {look.label}", look, 10))
    fig.add_trace(_markers(info, [max(p.dense, 1.0) for p in info.layers], "dense, fp32", dense, 11))
    values = [v for p in info.layers for v in (max(p.low, 1.0), p.dense)]
    ticks, texts = base.byte_ticks(values)
    ends = [math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1] if values else None
    fig.update_xaxes(
        type="log", tickvals=ticks, ticktext=texts, range=ends, title="bytes of the layer's weights, logarithmic"
    )
    fig.update_yaxes(autorange="reversed", showgrid=True)
    return fig


def _lines(info: PlanInfo, start: str, end: str, color: str, width: int, named: bool) -> go.Scatter:
    xs: list[float | None] = []
    ys: list[str | None] = []
    for plan in info.layers:
        xs += [max(getattr(plan, start), 1.0), max(getattr(plan, end), 1.0), None]
        ys += [plan.layer, plan.layer, None]
    return go.Scatter(
        x=xs, y=ys, mode="lines", line={"color": color, "width": width}, hoverinfo="skip", showlegend=named
    )


def _markers(info: PlanInfo, xs: list[float], name: str, look: theme.Style, size: int) -> go.Scatter:
    return go.Scatter(
        x=xs,
        y=[p.layer for p in info.layers],
        mode="markers",
        name=name,
        marker={"color": look.color, "symbol": look.symbol, "size": size},
        hovertext=[p.sentence for p in info.layers],
        hoverinfo="text",
    )
