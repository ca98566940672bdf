"""How long one image takes, every variant in a row: the median as a marker, the middle half of the runs as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go

ROOM = 1.12  # of the longest time, so that its label is not cut off on a phone


@dataclass(frozen=True)
class LatencyBar:
    """One variant: milliseconds (median and quartiles), and its BOPs relative to the dense model."""

    name: str
    median: float
    low: float
    high: float
    bops: float | None


@dataclass(frozen=True)
class LatencyInfo:
    """The variants, the dense one first; ``sentence`` says the same in words."""

    rows: tuple[LatencyBar, ...]
    method: str
    sentence: str

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows for a table."""
        dense = self.rows[0].median if self.rows else 1.0
        return [
            {
                "variant": row.name,
                "median, ms": round(row.median, 4),
                "middle half, ms": f"{row.low:.3f} to {row.high:.3f}",
                "times as fast as dense": round(dense / row.median, 2),
                "BOPs, % of dense": None if row.bops is None else round(100 * row.bops, 2),
            }
            for row in self.rows
        ]


def latency_info(variants: Sequence[Mapping[str, Any]], method: str) -> LatencyInfo:
    """From the ``latency.variants`` that an export measured."""
    dense = variants[0]["bops"] if variants else None
    rows = tuple(
        LatencyBar(v["name"], v["median"], v["low"], v["high"], v["bops"] / dense if dense and v["bops"] else None)
        for v in variants
    )
    times = "; ".join(f"{row.name} {row.median:.3f} ms" for row in rows)
    return LatencyInfo(rows, method, f"Median time for one image: {times}.")


def latency_figure(info: LatencyInfo) -> go.Figure:
    """The dense model as a star, the variants in the method's colour and shape, zero at the left."""
    fig = base.figure(90 + 44 * len(info.rows), showlegend=False, uirevision="latency")
    for index, row in enumerate(info.rows):
        label = row.name.replace(", channels", ",<br>channels")  # room on a phone
        look = theme.style(theme.DENSE if index == 0 else info.method)
        wide = {"color": theme.rgba(look.color, 0.4), "width": 8}
        fig.add_trace(base.segments([row.low], [row.high], [label], line=wide))
        bops = "" if row.bops is None else f", {100 * row.bops:.2f} % of the dense BOPs"
        fig.add_trace(
            base.scatter(
                [row.median], [label], "markers+text", text=[f"{row.median:.3f} ms"], textposition="top center",
                hovertext=[f"{row.name}: {row.median:.3f} ms, half of the runs {row.low:.3f} to {row.high:.3f}{bops}"],
                marker={"color": look.color, "symbol": look.symbol, "size": 13},
            )
        )  # fmt: skip
    most = max((row.high for row in info.rows), default=1.0)
    fig.update_xaxes(range=[0, most * ROOM], title="milliseconds for one image")
    fig.update_yaxes(range=[len(info.rows) - 0.6, -0.8], showgrid=False)
    return fig
