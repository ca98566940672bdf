"""A GETA run over its steps: bits under their falling bound, channels removed, and how fast they are forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from compression.methods.geta.options import SCHEDULE, WEIGHT_BITS
from compression.plots import theme
from compression.plots.base import LETTER_SHARE
from lessons.panels import BROWN, VIOLET, Panel, band, line, marks, stacked, upright
from lessons.recorded import Recorded

BELOW = -13  # pixels
Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class StagesInfo:
    """``phases``: (name, first step, last step) of the stages; the others are curves over the steps.

    ``bound``: the upper bit bound where it changes; ``least`` and ``most``: bits over the layers at each measured
    point; ``removed``: the share of units at zero; ``rates``: gamma of every group as a share of even forgetting.
    """

    phases: Sequence[tuple[str, int, int]]
    bound: Curve
    least: Curve
    most: Curve
    removed: Curve
    rates: Curve
    total: int

    def bound_at(self, step: int) -> float:
        """The upper bit bound at a step."""
        return [bits for at, bits in self.bound if at <= step][-1]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The measured points as a table."""
        removed = dict(self.removed)
        return [
            {"step": step, "fewest bits": low, "most bits": high, "units gone, %": round(100 * removed[step], 2)}
            for (step, low), (_, high) in zip(self.least, self.most, strict=True)
        ]


def stages_info(run: Recorded) -> StagesInfo:
    """The curves of a recorded run."""
    widths = {
        int(point["step"]): [float(width["weight"]) for width in point["bits"].values() if width["weight"] is not None]
        for point in run.points
    }
    start, high = SCHEDULE.value(run.budget.asks).start_bits, WEIGHT_BITS.value(run.budget.asks)[1]
    steps = range(1, run.total_steps + 1)
    bound = [(step, run.stages.upper_bits(step, start, high)) for step in steps]
    changes = [now for before, now in zip([(0, math.nan), *bound], bound, strict=False) if now[1] != before[1]]
    groups = [(step, group) for step, event in run.decisions.items() for group in event["joint"].values()]
    return StagesInfo(
        run.phases,
        [*changes, bound[-1]],
        [(step, min(bits)) for step, bits in widths.items() if bits],
        [(step, max(bits)) for step, bits in widths.items() if bits],
        [(int(point["step"]), float(point["unit_sparsity"])) for point in run.points],
        [(step, group["rate"] / group["uniform"]) for step, group in groups if group["rate"] > 0],
        run.total_steps,
    )


def stages_figure(info: StagesInfo, step: int) -> go.Figure:
    """Three charts over the same steps, the stages shaded, a line at the step looked at."""
    shaded = [band(start, end, theme.stage(name, "geta").tint) for name, start, end in info.phases]
    shapes = [*shaded, upright(step, theme.HIGHLIGHT, 2)]
    x = {"range": [0, info.total]}
    bits = [
        _curve(
            "bit bound",
            [point for point in info.bound if math.isfinite(point[1])],
            theme.HIGHLIGHT,
            dash="dot",
            shape="hv",
        ),
        _curve("most bits", info.most, theme.ACCENT),
        _curve("fewest bits", info.least, BROWN),
    ]
    removed = _curve("channels gone", info.removed, VIOLET, 100)
    steps, shares = [at for at, _ in info.rates], [100 * share for _, share in info.rates]
    rates = marks("γ of a group", steps, shares, BROWN, 4)
    log = {"title": "γ, % of even", "type": "log", "dtick": 1, "exponentformat": "none"}
    panels = [
        Panel(bits, x, {"title": "bits", "rangemode": "tozero"}, shapes=shapes, notes=_names(info), share=1.2),
        Panel([removed], x, {"title": "gone, %", "rangemode": "tozero"}, shapes=shapes, share=0.8),
        Panel([rates], {**x, "title": "training step"}, log, shapes=shapes, share=0.8),
    ]
    return stacked(panels, 390, uirevision="stages")


def _curve(name: str, points: Curve, color: str, factor: float = 1, **more: Any) -> dict[str, Any]:
    return line(name, [at for at, _ in points], [factor * value for _, value in points], color, **more)


def _names(info: StagesInfo) -> list[dict[str, Any]]:
    """The names of the stages at their beginnings; lower than the next where one does not fit on a phone."""
    notes = []
    for name, start, end in info.phases:
        label, share = theme.stage(name, "geta").label, (end - start) / info.total
        place = {"x": start, "y": 1, "yref": "domain", "xanchor": "left", "yanchor": "top", "showarrow": False}
        place["yshift"] = 0 if share >= LETTER_SHARE * len(label) else BELOW
        if share > 0.06:
            notes.append({**place, "text": label, "font": {"size": 11, "color": theme.MUTED}})
    return notes
