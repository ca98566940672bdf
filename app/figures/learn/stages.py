"""A GETA run over its steps: bits under their falling bound, channels gone, and how fast they are forgotten."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures.base import LETTER_SHARE, Stage
from app.figures.learn.panels import Panel, band, line, stacked, upright
from app.runs.view_model import Story
from compression.methods.geta.schedule import Stages

BELOW = -13  # pixels


@dataclass(frozen=True)
class StagesInfo:
    """``bits``: (step, least, most) over the layers at each measured point; ``bound``: (step, upper bit bound);

    ``gone``: (step, share of units); ``rates``: (step, gamma as a share of even forgetting) of every group.
    """

    stages: tuple[Stage, ...]
    bits: tuple[tuple[int, float, float], ...]
    bound: tuple[tuple[int, float], ...]
    gone: tuple[tuple[int, float], ...]
    rates: tuple[tuple[int, float], ...]
    total: int

    def bound_at(self, step: int) -> float:
        """The upper bit bound at a step."""
        return [bits for at, bits in self.bound if at <= step][-1]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The measured points as a table."""
        gone = dict(self.gone)
        return [
            {"step": step, "fewest bits": low, "most bits": high, "units gone, %": round(100 * gone.get(step, 0.0), 2)}
            for step, low, high in self.bits
        ]


def stages_info(
    story: Story, decisions: Mapping[int, Mapping[str, Any]], stages: Stages, start_bits: float, high: float
) -> StagesInfo:
    """Gather what the picture needs from a run's story and its joint decisions."""
    bits = []
    for point in story.points:
        widths = [float(width["weight"]) for width in point["bits"].values() if width["weight"] is not None]
        if widths:
            bits.append((int(point["step"]), min(widths), max(widths)))
    total = story.total_steps or stages.total
    bound = [(step, stages.upper_bits(step, start_bits, high)) for step in range(1, total + 1)]
    rates = []
    for step, event in decisions.items():
        rates += [(step, told["rate"] / told["uniform"]) for told in event["joint"].values() if told["rate"] > 0]
    gone = tuple((int(point["step"]), float(point["unit_sparsity"])) for point in story.points)
    return StagesInfo(story.stages, tuple(bits), _changes(bound), gone, tuple(rates), total)


def _changes(bound: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Only where the bound changes, and the last step."""
    kept = [now for before, now in zip([(0, math.nan), *bound], bound, strict=False) if now[1] != before[1]]
    return (*kept, bound[-1])


def stages_figure(info: StagesInfo, step: int) -> go.Figure:
    """Three charts over the same steps, the stages shaded, a line at the step looked at."""
    return stacked([_bits(info, step), _gone(info, step), _rates(info, step)], 390, uirevision="stages")


def _frame(info: StagesInfo, step: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    shaded = [band(stage.start, stage.end, theme.stage_tint(stage.name)) for stage in info.stages]
    return {"range": [0, info.total]}, [*shaded, upright(step, theme.HIGHLIGHT, 2)]


def _bits(info: StagesInfo, step: int) -> Panel:
    x, shapes = _frame(info, step)
    steps = [at for at, _, _ in info.bits]
    finite = [(at, bits) for at, bits in info.bound if math.isfinite(bits)]
    traces = [
        line("bit bound", [at for at, _ in finite], [b for _, b in finite], theme.HIGHLIGHT, dash="dot"),
        line("most bits", steps, [high for _, _, high in info.bits], theme.ACCENT),
        line("fewest bits", steps, [low for _, low, _ in info.bits], theme.STAGES["projection"][1]),
    ]
    traces[0]["line"]["shape"] = "hv"
    notes = [
        {
            "x": stage.start, "y": 1, "yref": "domain", "xanchor": "left", "yanchor": "top", "showarrow": False,
            "text": theme.stage_label(stage.name), "font": {"size": 11, "color": theme.MUTED},
            "yshift": 0 if _roomy(stage, info) else BELOW,
        }
        for stage in info.stages if stage.end - stage.start > 0.06 * info.total
    ]  # fmt: skip
    return Panel(traces, x, {"title": "bits", "rangemode": "tozero"}, shapes=shapes, notes=notes, share=1.2)


def _roomy(stage: Stage, info: StagesInfo) -> bool:
    """Does the name of the stage fit between its ends, on a phone too? Else it stands lower than the next one's."""
    return stage.end - stage.start >= LETTER_SHARE * len(theme.stage_label(stage.name)) * info.total


def _gone(info: StagesInfo, step: int) -> Panel:
    x, shapes = _frame(info, step)
    values = [100 * share for _, share in info.gone]
    trace = line("channels gone", [at for at, _ in info.gone], values, theme.STYLES["sequential"].color)
    return Panel([trace], x, {"title": "gone, %", "rangemode": "tozero"}, shapes=shapes, share=0.8)


def _rates(info: StagesInfo, step: int) -> Panel:
    x, shapes = _frame(info, step)
    values = [100 * share for _, share in info.rates]
    trace = line("γ of a group", [at for at, _ in info.rates], values, theme.STYLES["magnitude"].color)
    trace |= {"mode": "markers", "marker": {"color": theme.STYLES["magnitude"].color, "size": 4}}
    y = {"title": "γ, % of even", "type": "log", "dtick": 1, "exponentformat": "none"}
    return Panel([trace], {**x, "title": "training step"}, y, shapes=shapes, share=0.8)
