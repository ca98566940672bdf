"""How alike the explanations of two models are, each method in a row between its floors and its ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go

NAMES = {
    "compressed": "compressed model",
    "ceiling": "ceiling: itself with invisible noise",
    "random": "floor: random weights",
    "shuffled": "floor: another image",
}
LOOKS = {"ceiling": ("triangle-right-open", 11), "random": ("triangle-left-open", 11), "shuffled": ("circle-open", 9)}


@dataclass(frozen=True)
class AlikeRow:
    """The mean scores of one method; ``spread`` is half the 95 % interval of the compressed model's mean."""

    label: str
    compressed: float
    spread: float
    ceiling: float
    random: float
    shuffled: float

    @property
    def floor(self) -> float:
        """The higher of the two floors."""
        return max(self.random, self.shuffled)

    @property
    def retained(self) -> float | None:
        """The share of the way from floor to ceiling; ``None`` where there is no way."""
        way = self.ceiling - self.floor
        return (self.compressed - self.floor) / way if way > 0 else None


@dataclass(frozen=True)
class AlikeInfo:
    """The rows of one measure, on so many images, of a run of ``method``."""

    rows: tuple[AlikeRow, ...]
    measure: str
    images: int
    method: str

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows for a table."""
        return [
            {
                "method": row.label,
                "measure": self.measure,
                "compressed": round(row.compressed, 3),
                "95 % interval, ±": round(row.spread, 3),
                "ceiling": round(row.ceiling, 3),
                "floor: random weights": round(row.random, 3),
                "floor: another image": round(row.shuffled, 3),
                "kept, %": None if row.retained is None else round(100 * row.retained),
            }
            for row in self.rows
        ]

    @property
    def sentence(self) -> str:
        """The chart in words: the methods that keep most and least."""
        known = sorted((row for row in self.rows if row.retained is not None), key=lambda row: -(row.retained or 0.0))
        if not known:
            return "No method tells the original from chance on these images."
        text = f"Of the way from chance to the original itself the compressed model keeps {_retained(known[0])} in **"
        text += f"{known[0].label}**"
        if len(known) > 1:
            text += f" (the most) and {_retained(known[-1])} in **{known[-1].label}** (the least)"
        return f"{text}: {self.measure}, mean of {self.images} test images."


def alike_info(
    scores: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    labels: Mapping[str, str],
    measure: tuple[str, str],
    method: str,
) -> AlikeInfo:
    """From a comparison's ``scores``; ``measure`` is the key and its name for people."""
    key, name = measure
    rows = tuple(_row(labels[way], measures[key]) for way, measures in scores.items())
    count = len(next(iter(scores.values()))[key]["compressed"]) if scores else 0
    return AlikeInfo(rows, name, count, method)


def _row(label: str, scores: Mapping[str, Sequence[float]]) -> AlikeRow:
    mean = {key: sum(values) / len(values) for key, values in scores.items()}
    values = scores["compressed"]
    variance = sum((value - mean["compressed"]) ** 2 for value in values) / max(1, len(values) - 1)
    spread = 1.96 * math.sqrt(variance / len(values))
    return AlikeRow(label, mean["compressed"], spread, mean["ceiling"], mean["random"], mean["shuffled"])


def _retained(row: AlikeRow) -> str:
    percent = round(100 * (row.retained or 0.0))
    return "nothing" if percent <= 0 else "all" if percent >= 100 else f"{percent} %"


def alike_figure(info: AlikeInfo) -> go.Figure:
    """A bar from floor to ceiling for each method, the compressed model's mean on it with its 95 % interval."""
    fig = base.figure(130 + 46 * len(info.rows), uirevision=f"alike {info.measure}", hovermode="closest")
    bar = {"color": theme.rgba(theme.MUTED, 0.25), "width": 12}
    floors, ceilings = [row.floor for row in info.rows], [row.ceiling for row in info.rows]
    fig.add_trace(base.segments(floors, ceilings, [row.label for row in info.rows], line=bar))
    for key, (symbol, size) in LOOKS.items():
        fig.add_trace(_marks(info, key, {"symbol": symbol, "size": size, "color": theme.MUTED, "line": {"width": 2}}))
    look = theme.style(info.method)
    compressed = _marks(info, "compressed", {"symbol": look.symbol, "size": 13, "color": look.color})
    spreads = [row.spread for row in info.rows]
    compressed.update(error_x={"array": spreads, "color": look.color, "thickness": 1.5, "width": 4})
    fig.add_trace(compressed)
    low = min([0.0, *(min(row.random, row.shuffled, row.compressed - row.spread) for row in info.rows)])
    fig.update_xaxes(range=[low - 0.04, 1.04], title=f"{info.measure} (1: the same map)")
    fig.update_yaxes(autorange="reversed", showgrid=False)
    return fig


def _marks(info: AlikeInfo, key: str, marker: Mapping[str, Any]) -> go.Scatter:
    values = [float(getattr(row, key)) for row in info.rows]
    texts = [
        f"{row.label}: {NAMES[key]} {value:.3f}" + (f" ± {row.spread:.3f}" if key == "compressed" else "")
        for row, value in zip(info.rows, values, strict=True)
    ]
    rows = [row.label for row in info.rows]
    return base.scatter(values, rows, name=NAMES[key], marker=dict(marker), hovertext=texts)
