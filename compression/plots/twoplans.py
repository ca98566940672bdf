"""Two plans layer by layer: the bytes of A and of B on one logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go
from compression.plots.plan import LayerPlan


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
    first, second = [max(v, 1.0) for v in info.a], [max(v, 1.0) for v in info.b]
    fig = base.figure(110 + 24 * len(info.layers), uirevision="two plans", hovermode="closest")
    fig.add_trace(base.segments(first, second, info.layers, line={"color": theme.FAINT, "width": 4}))
    looks = (("A", first, theme.HIGHLIGHT, "diamond-open"), ("B", second, theme.ACCENT, "circle"))
    for name, sizes, color, symbol in looks:
        marker = {"color": color, "symbol": symbol, "size": 10, "line": {"width": 2}}
        hover = f"<b>%{{y}}</b>, {name}<br>%{{x:,.0f}} bytes<extra></extra>"
        fig.add_trace(base.scatter(sizes, info.layers, name=name, marker=marker, hovertemplate=hover))
    values = [*first, *second]
    base.log_axis(fig, values, "bytes of the layer's weights at the most bits", ends=base.log_ends(values))
    fig.update_yaxes(autorange="reversed", showgrid=True)
    return fig
