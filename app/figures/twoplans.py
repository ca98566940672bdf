"""Two plans layer by layer: the bytes of A and of B on one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures import base
from app.figures.plan import LayerPlan


@dataclass(frozen=True)
class TwoPlansInfo:
    """Bytes of each layer's weights at the most bits, in A and in B, and dense."""

    layers: tuple[str, ...]
    dense: tuple[float, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The same as a table."""
        return [
            {"layer": name, "dense bytes": round(d), "A, bytes": round(a), "B, bytes": round(b), "B − A": round(b - a)}
            for name, d, a, b in zip(self.layers, self.dense, self.a, self.b, strict=True)
        ]


def two_plans_info(a: Sequence[LayerPlan], b: Sequence[LayerPlan]) -> TwoPlansInfo:
    """Match the layers of two plans of one network."""
    first = {plan.layer: plan.high for plan in a}
    both = [plan for plan in b if plan.layer in first]
    return TwoPlansInfo(
        tuple(plan.layer for plan in both),
        tuple(plan.dense for plan in both),
        tuple(first[plan.layer] for plan in both),
        tuple(plan.high for plan in both),
    )


def two_plans_figure(info: TwoPlansInfo) -> go.Figure:
    """A row per layer: A open, B filled, a line between them."""
    fig = base.figure(110 + 24 * len(info.layers), uirevision="two plans", hovermode="closest")
    xs: list[float | None] = []
    ys: list[str | None] = []
    for name, a, b in zip(info.layers, info.a, info.b, strict=True):
        xs += [max(a, 1.0), max(b, 1.0), None]
        ys += [name, name, None]
    line = {"color": theme.FAINT, "width": 4}
    fig.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False))
    for name, sizes, color, symbol in (
        ("A", info.a, theme.HIGHLIGHT, "diamond-open"),
        ("B", info.b, theme.ACCENT, "circle"),
    ):
        fig.add_trace(
            go.Scatter(
                x=[max(v, 1.0) for v in sizes], y=info.layers, mode="markers", name=name,
                marker={"color": color, "symbol": symbol, "size": 10, "line": {"width": 2}},
                hovertemplate=f"<b>%{{y}}</b>, {name}<br>%{{x:,.0f}} bytes<extra></extra>",
            )
        )  # fmt: skip
    values = [max(v, 1.0) for v in (*info.a, *info.b)]
    ticks, texts = base.byte_ticks(values)
    ends = [math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1] if values else None
    title = "bytes of the layer's weights at the most bits, logarithmic"
    fig.update_xaxes(type="log", tickvals=ticks, ticktext=texts, range=ends, title=title)
    fig.update_yaxes(autorange="reversed", showgrid=True)
    return fig
