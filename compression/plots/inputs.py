"""What flows into each layer: in how many directions it varies, and what rounding does to the layer's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go

ERRORS, DIRECTIONS = "errors", "directions"
VIEWS = {ERRORS: "output error of rounding", DIRECTIONS: "directions that inputs vary in"}


@dataclass(frozen=True)
class InputsInfo:
    """Layers in the order of execution; shares in percent. See :mod:`compression.explain.layer_inputs`."""

    layers: tuple[str, ...]
    directions: tuple[float, ...]
    nearest: tuple[float, ...]
    following: tuple[float, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def gain(self) -> tuple[str, float]:
        """The layer where making good lowers the error by the largest factor, and that factor."""
        pairs = zip(self.nearest, self.following, self.layers, strict=True)
        factor, layer = max(((near / max(far, 1e-12), name) for near, far, name in pairs), default=(1.0, ""))
        return layer, factor


def inputs_info(rows: Sequence[Mapping[str, Any]]) -> InputsInfo:
    """From the rows of the study."""
    table = tuple(
        {
            "layer": row["name"],
            "inputs": row["inputs"],
            "directions": round(row["directions"], 1),
            "constant part, %": round(100 * row["mean"], 1),
            "always 0": row["dead"],
            "output error, nearest, %": _rounded(row["nearest"]),
            "output error, made good, %": _rounded(row["following"]),
        }
        for row in rows
    )
    return InputsInfo(
        tuple(row["name"] for row in rows),
        tuple(100 * row["directions"] / row["inputs"] for row in rows),
        tuple(100 * row["nearest"] for row in rows),
        tuple(100 * row["following"] for row in rows),
        table,
    )


def inputs_figure(info: InputsInfo, view: str) -> go.Figure:
    """A row per layer: both errors on a logarithmic axis, or a bar for the share of directions."""
    fig = base.figure(110 + 24 * len(info.layers), uirevision=f"inputs {view}", hovermode="closest")
    if view == DIRECTIONS:
        hover = "<b>%{y}</b><br>%{x:.1f} % of its inputs' directions<extra></extra>"
        bar = {"color": theme.ACCENT}
        fig.add_trace(go.Bar(x=info.directions, y=info.layers, orientation="h", marker=bar, hovertemplate=hover))
        fig.update_xaxes(title="directions, % of the inputs of a row", ticksuffix=" %", rangemode="tozero")
    else:
        line = {"color": theme.FAINT, "width": 2}
        fig.add_trace(base.segments(info.following, info.nearest, info.layers, line=line))
        looks = (("nearest rounding", info.nearest, theme.MUTED, "circle"),
                 ("made good by later weights", info.following, theme.ACCENT, "diamond"))  # fmt: skip
        for name, values, color, symbol in looks:
            hover = f"<b>%{{y}}</b><br>{name}: %{{x:.3g}} %<extra></extra>"
            marker = {"color": color, "symbol": symbol, "size": 10}
            fig.add_trace(base.scatter(values, info.layers, name=name, marker=marker, hovertemplate=hover))
        positive = [value for value in (*info.nearest, *info.following) if value > 0]
        base.log_axis(fig, positive, "output error", lambda value: f"{value:.10g} %")
    base.layer_axis(fig, grid=view == ERRORS)
    return fig


def _rounded(share: float) -> float:
    return float(f"{100 * share:.3g}")
