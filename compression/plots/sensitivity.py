"""What one layer at a time costs: a map of layers and settings, the chosen setting of every layer framed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go
from compression.tasks import ACCURACY, Metric

MOST_TEXTS = 40  # rows up to which the numbers are written into the map
WORST = 30.0  # points lost that are full colour at most
STRONG, ON_STRONG = 0.6, "#15181d"  # from this share of full colour on letters are dark


@dataclass(frozen=True)
class SensitivityInfo:
    """``lost[layer][setting]``: points of the metric lost, ``None`` where the layer has no such setting.

    ``chosen``: (layer, setting) pairs that the rule takes; ``settings`` in the order they are drawn.
    """

    layers: tuple[str, ...]
    settings: tuple[str, ...]
    lost: tuple[tuple[float | None, ...], ...]
    chosen: tuple[tuple[str, str], ...]
    metric: Metric = ACCURACY

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The map as a table of points lost."""
        return [
            {"layer": layer, **{s: None if v is None else round(v, 2) for s, v in zip(self.settings, row, strict=True)}}
            for layer, row in zip(self.layers, self.lost, strict=True)
        ]


def sensitivity_info(
    scan: Mapping[str, Any],
    layers: Sequence[str],
    group_of_layer: Mapping[str, str],
    bits: Mapping[str, int],
    shares: Mapping[str, float],
) -> SensitivityInfo:
    """From a scan's result; a group's settings are in the row of every layer whose channels it holds.

    ``bits`` and ``shares`` are the settings that the rule takes, by layer, and by layer or group.
    """
    rows, kind = scan["rows"], "units" if scan["structured"] else "weights"
    widths = sorted({row["value"] for row in rows if row["kind"] == "bits"}, reverse=True)
    parts = sorted({row["value"] for row in rows if row["kind"] == kind})
    metric = Metric.from_result(scan)
    lost = {(row["kind"], row["name"], row["value"]): metric.lost(scan["dense"], row["score"]) for row in rows}
    owner = {name: group_of_layer.get(name, "") if scan["structured"] else name for name in layers}
    table = tuple(
        (*(lost.get(("bits", name, b)) for b in widths), *(lost.get((kind, owner[name], s)) for s in parts))
        for name in layers
    )
    names = (*(f"{b:g} bits" for b in widths), *(_share(s) for s in parts))
    picked = [(name, f"{bits[name]:g} bits") for name in layers if bits.get(name) in widths]
    picked += [(name, _share(shares[owner[name]])) for name in layers if shares.get(owner[name], 0.0) in parts]
    return SensitivityInfo(tuple(layers), names, table, tuple(picked), metric)


def _share(share: float) -> str:
    return f"−{words.share(share, 0)}"


def _text(lost: float) -> str:
    return f"{lost:.0f}" if abs(lost) >= 9.95 else f"{lost + 0.0:.1f}".replace("-", "−")


def _texts(info: SensitivityInfo, most: float, dark: bool) -> go.Scatter:
    """The numbers: dark letters on strong colour, muted ones elsewhere, so that they read in both themes."""
    cells = [
        (setting, layer, _text(lost))
        for layer, row in zip(info.layers, info.lost, strict=True)
        for setting, lost in zip(info.settings, row, strict=True)
        if lost is not None and (lost > STRONG * most) == dark
    ]
    font = {"size": 11, "color": ON_STRONG if dark else theme.MUTED}
    xs, ys, texts = zip(*cells, strict=True) if cells else ((), (), ())
    return base.scatter(xs, ys, "text", text=texts, textfont=font)


def _frame(info: SensitivityInfo, layer: str, setting: str) -> dict[str, Any]:
    """The edge of a cell, on axes on which categories are whole numbers."""
    x, y, line = info.settings.index(setting), info.layers.index(layer), {"color": theme.ACCENT, "width": 2}
    return {"type": "rect", "x0": x - 0.49, "x1": x + 0.49, "y0": y - 0.46, "y1": y + 0.46, "line": line}


def sensitivity_figure(info: SensitivityInfo) -> go.Figure:
    """Darker is more expensive; what the rule takes is framed."""
    fig = base.figure(96 + 24 * len(info.layers), uirevision="sensitivity", showlegend=False)
    worst = max((v for row in info.lost for v in row if v is not None), default=0.0)
    most, what = max(1.0, min(worst, WORST)), f"{info.metric.points} of {info.metric.label}"
    fig.add_trace(
        go.Heatmap(
            x=info.settings, y=info.layers, z=[[None if v is None else round(v, 2) for v in row] for row in info.lost],
            zmin=0, zmax=most, xgap=2, ygap=2, hoverongaps=False,
            colorscale=((0.0, theme.rgba(theme.HIGHLIGHT, 0.06)), (1.0, theme.HIGHLIGHT)),
            showscale=False,
            hovertemplate=f"<b>%{{y}}</b>, %{{x}}<br>%{{z:.2f}} {what} lost<extra></extra>",
        )
    )  # fmt: skip
    if len(info.layers) <= MOST_TEXTS:
        fig.add_traces([_texts(info, most, dark) for dark in (False, True)])
    fig.update_xaxes(side="top", type="category", showgrid=False)
    fig.update_layout(shapes=[_frame(info, layer, setting) for layer, setting in info.chosen])
    base.layer_axis(fig)
    return fig
