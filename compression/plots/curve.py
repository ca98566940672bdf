"""What an allocation costs before any training: the score by sparsity and by predicted error, this budget marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go
from compression.tasks import ACCURACY, Metric

SYMBOLS = ("circle-open", "square-open", "diamond-open", "triangle-up-open", "x-open")


@dataclass(frozen=True)
class CurveInfo:
    """``lines``: average bits → its rows by sparsity; ``nearest``: the measured bits next to the requested ones.

    ``sparsity`` and ``error`` are what the present budget asks for and what is predicted for it. ``shown`` says which
    score the charts are about: ``score`` as allocated, or ``recomputed`` with batch norms refitted.
    """

    lines: Mapping[float, tuple[Mapping[str, Any], ...]]
    dense: float
    nearest: float
    sparsity: float
    error: float | None
    shown: str = "score"
    metric: Metric = ACCURACY

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Both charts as one table."""
        refitted = f"batch norms refitted{self.metric.unit}"
        return [
            {
                "average bits": bits,
                "sparsity, %": round(100 * row["sparsity"], 1),
                "predicted error, %": float(f"{100 * row['error']:.3g}"),
                self.metric.axis: self._rounded(row["score"]),
                **({refitted: self._rounded(row["recomputed"])} if self.refitted else {}),
            }
            for bits, rows in self.lines.items()
            for row in rows
        ]

    def _rounded(self, score: float) -> float:
        return round(self.metric.shown(score), 2)

    @property
    def refitted(self) -> bool:
        """Whether the network has batch norms, so that they were refitted, too."""
        return any(row.get("recomputed") is not None for rows in self.lines.values() for row in rows)


def curve_info(
    rows: Sequence[Mapping[str, Any]],
    dense: float,
    bits: float,
    sparsity: float,
    error: float | None,
    shown: str = "score",
    metric: Metric = ACCURACY,
) -> CurveInfo:
    """Sort the measured rows into lines and find the one next to the requested bits."""
    widths = sorted({float(row["bits"]) for row in rows})
    lines = {
        width: tuple(sorted((r for r in rows if r["bits"] == width), key=lambda r: float(r["sparsity"])))
        for width in widths
    }
    nearest = min(widths, key=lambda width: abs(width - bits))
    return CurveInfo(lines, dense, nearest, sparsity, error, shown, metric)


def curve_figure(info: CurveInfo, by: str = "sparsity") -> go.Figure:
    """The score over ``sparsity`` or the predicted ``error``; the requested bits bold, the budget a dotted line."""
    fig = base.figure(280, uirevision=f"curve {by}", hovermode="closest")
    for (bits, rows), symbol in zip(info.lines.items(), SYMBOLS, strict=False):
        chosen = bits == info.nearest
        color = theme.SERIES[0] if chosen else theme.MUTED
        fig.add_trace(
            base.scatter(
                [100 * row[by] for row in rows],
                [info.metric.shown(row[info.shown]) for row in rows],
                "lines+markers" if by == "sparsity" else "markers",
                name=f"{bits:g} bits",
                line={"color": color, "width": 3 if chosen else 1},
                marker={"symbol": symbol, "size": 9 if chosen else 7, "color": color, "line": {"width": 2}},
                hovertext=[_sentence(row, info) for row in rows],
            )
        )
    fig.add_hline(y=info.metric.shown(info.dense), line={"color": theme.MUTED, "width": 1, "dash": "dash"})
    now = info.sparsity if by == "sparsity" else info.error
    if now is not None:
        fig.add_vline(x=100 * now, line={"color": theme.SERIES[0], "width": 1, "dash": "dot"})
    title = "sparsity" if by == "sparsity" else "predicted error of the weights"
    fig.update_xaxes(title=title, ticksuffix=" %")
    fig.update_yaxes(title=info.metric.label, ticksuffix=info.metric.unit, rangemode="tozero")
    return fig


def _sentence(row: Mapping[str, Any], info: CurveInfo) -> str:
    score = info.metric.show(row[info.shown])
    return (
        f"<b>{score}</b> {info.metric.label} without any training<br>{words.share(row['sparsity'], 0)} of "
        f"weights at zero, {row['bits']:g} bits on average<br>predicted error {100 * row['error']:.3g} %"
    )
