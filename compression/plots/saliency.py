"""How criteria of saliency agree: the rank correlation with magnitude, and each group's share of all saliency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go

NAMES = {
    "magnitude": "Magnitude",
    "taylor": "Taylor",
    "gradient_activation": "Gradient × activation",
    "conductance": "Conductance",
}
LOOKS = {
    "magnitude": (theme.MUTED, "circle"),
    "taylor": (theme.SERIES[2], "diamond"),
    "gradient_activation": (theme.HIGHLIGHT, "square"),
    "conductance": (theme.ACCENT, "triangle-up"),
}
MEASURES = {"rank": "rank correlation with magnitude", "share": "share of all saliency"}


@dataclass(frozen=True)
class SaliencyInfo:
    """Groups in the order of the network; ``rank`` and ``share``: criterion → a value per group (``None``: none)."""

    groups: tuple[str, ...]
    units: tuple[int, ...]
    rank: Mapping[str, tuple[float | None, ...]]
    share: Mapping[str, tuple[float | None, ...]]

    @property
    def part_of_units(self) -> tuple[float, ...]:
        """Each group's share of all units."""
        return tuple(count / sum(self.units) for count in self.units)

    def per_unit(self, criterion: str) -> dict[str, float]:
        """Group → saliency of its mean unit, as a multiple of that of the mean unit of the whole network."""
        pairs = zip(self.groups, self.share[criterion], self.part_of_units, strict=True)
        return {group: share / part for group, share, part in pairs if share is not None}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Both figures as one table."""
        return [
            {
                "group": group,
                "units": self.units[i],
                "of all units, %": round(100 * self.part_of_units[i], 1),
                **{f"{NAMES[c]}: rank with magnitude": _rounded(v[i], 3) for c, v in self.rank.items()},
                **{f"{NAMES[c]}: of all, %": _rounded(v[i], 1, 100) for c, v in self.share.items()},
            }
            for i, group in enumerate(self.groups)
        ]

    @property
    def sentence(self) -> str:
        """What to see in it."""
        means = {c: [x for x in v if x is not None] for c, v in self.rank.items()}
        parts = [f"{NAMES[c]} {sum(v) / len(v):.2f}" for c, v in means.items() if v]
        return f"Mean rank correlation with magnitude over the groups: {', '.join(parts)}." if parts else ""


def saliency_info(rows: Sequence[Mapping[str, Any]], criteria: Sequence[str]) -> SaliencyInfo:
    """From the rows of the study."""
    rank = {c: tuple(row["rank"].get(c) for row in rows) for c in criteria if c != "magnitude"}
    share = {c: tuple(row["share"].get(c) for row in rows) for c in criteria}
    return SaliencyInfo(tuple(r["group"] for r in rows), tuple(r["units"] for r in rows), rank, share)


def saliency_figure(info: SaliencyInfo, measure: str) -> go.Figure:
    """A row per group, a marker per criterion; for ``share`` a bar is the group's part of all units."""
    fig = base.figure(110 + 26 * len(info.groups), uirevision=f"saliency {measure}", hovermode="closest")
    values, scale = (info.rank, 1.0) if measure == "rank" else (info.share, 100.0)
    if measure == "share":
        parts = [100 * part for part in info.part_of_units]
        fig.add_trace(
            go.Bar(x=parts, y=info.groups, orientation="h", name="part of all units", marker={"color": theme.FAINT},
                   hovertemplate="<b>%{y}</b><br>%{x:.1f} % of all units<extra></extra>")
        )  # fmt: skip
    else:
        fig.add_vline(x=0, line={"color": theme.MUTED, "width": 1, "dash": "dot"})
    for criterion, row in values.items():
        color, symbol = LOOKS[criterion]
        fig.add_trace(
            base.scatter(
                [None if value is None else scale * value for value in row],
                info.groups,
                name=NAMES[criterion],
                marker={"color": color, "symbol": symbol, "size": 10},
                hovertemplate=f"<b>%{{y}}</b><br>{NAMES[criterion]}: %{{x:.2f}}<extra></extra>",
            )
        )
    suffix = "" if measure == "rank" else " %"
    fig.update_xaxes(title=MEASURES[measure], ticksuffix=suffix, range=[-1.05, 1.05] if measure == "rank" else None)
    base.layer_axis(fig, grid=True)
    return fig


def _rounded(value: float | None, digits: int, scale: float = 1.0) -> float | None:
    return None if value is None else round(scale * value, digits)
