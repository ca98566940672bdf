"""The staircase of a quantizer with the smooth surrogate that touches it at one point, and the gradient of x."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures.learn.panels import Panel, band, here, line, stacked, upright
from compression.quant.surrogate import Point, gradients, residue, slopes, staircase, surrogate

REACH, POINTS = 1.6, 321
SLOPES = 60  # at which the gradient of x is asked of the library


@dataclass(frozen=True)
class StaircaseInfo:
    """``stairs`` and ``smooth`` over ``xs``: the quantizer and its surrogate; ``slopes`` over ``slope_xs``."""

    at: Point
    xs: tuple[float, ...]
    stairs: tuple[float, ...]
    smooth: tuple[float, ...]
    slope_xs: tuple[float, ...]
    slopes: tuple[float, ...]


def staircase_info(at: Point) -> StaircaseInfo:
    """Walk along x with d, q_m and t as they are."""
    xs = np.linspace(-REACH, REACH, POINTS).tolist()
    points = [dataclasses.replace(at, x=x) for x in xs]
    held = residue(at)
    edges = [-at.clip - 1e-9, -at.clip + 1e-9, at.clip - 1e-9, at.clip + 1e-9]
    slope_xs = sorted([*np.linspace(-REACH, REACH, SLOPES).tolist(), *edges])
    return StaircaseInfo(
        at,
        tuple(xs),
        tuple(staircase(point) for point in points),
        tuple(surrogate(point, held) for point in points),
        tuple(slope_xs),
        tuple(slopes(at, slope_xs)),
    )


def staircase_figure(info: StaircaseInfo) -> go.Figure:
    """Above: stairs and surrogate. Below: the gradient that x gets, which ends at the clipping bound."""
    return stacked([_above(info), _below(info)], 350, uirevision="staircase", hovermode="closest")


def _outside(info: StaircaseInfo) -> list[dict[str, object]]:
    color = theme.rgba(theme.HIGHLIGHT, 0.1)
    marks = [upright(side * info.at.clip, theme.HIGHLIGHT, 1, "dash") for side in (-1, 1)]
    return [band(-REACH, -info.at.clip, color), band(info.at.clip, REACH, color), *marks]


def _above(info: StaircaseInfo) -> Panel:
    stairs = line("staircase Q(x)", info.xs, info.stairs, theme.STYLES["ptq"].color)
    traces = [
        {**stairs, "line": {**stairs["line"], "shape": "hv"}},
        line("surrogate, residue r held", info.xs, info.smooth, theme.ACCENT, dash="dash"),
        here(info.at.x, staircase(info.at)),
    ]
    x = {"range": [-REACH, REACH]}
    return Panel(traces, x, {"title": "Q(x)"}, share=1.7, shapes=_outside(info))


def _below(info: StaircaseInfo) -> Panel:
    traces = [
        line("gradient of x", info.slope_xs, info.slopes, theme.ACCENT, showlegend=False),
        here(info.at.x, gradients(info.at).x, showlegend=False),
    ]
    most = max(2.0, *info.slopes) if info.at.exponent < 1 else max(1.0, *info.slopes)
    y = {"title": "∂Q/∂x", "range": [-0.1, min(3.0, most) * 1.15]}
    return Panel(traces, {"title": "x (shaded: clipped)", "range": [-REACH, REACH]}, y, shapes=_outside(info))
