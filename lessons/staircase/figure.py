"""The staircase of a quantizer with the smooth surrogate that touches it at one point, and the gradient of x."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import plotly.graph_objects as go

from compression.plots import theme
from lessons.maths.surrogate import Point, gradients, residue, slopes, staircase, surrogate
from lessons.panels import BROWN, Panel, band, here, line, stacked, upright

REACH, POINTS = 1.6, 321
SLOPES = 60  # points at which the library computes the gradient of x
SPAN = {"range": [-REACH, REACH]}


def staircase_figure(at: Point) -> go.Figure:
    """Above: stairs and surrogate. Below: the gradient that x gets, which ends at the clipping bound."""
    return stacked([_stairs(at), _slopes(at)], 350, uirevision="staircase", hovermode="closest")


def _outside(at: Point) -> list[dict[str, Any]]:
    """The clipped sides, shaded."""
    color = theme.rgba(theme.HIGHLIGHT, 0.1)
    bounds = [upright(side * at.clip, theme.HIGHLIGHT, 1, "dash") for side in (-1, 1)]
    return [band(-REACH, -at.clip, color), band(at.clip, REACH, color), *bounds]


def _stairs(at: Point) -> Panel:
    xs, fixed = np.linspace(-REACH, REACH, POINTS).tolist(), residue(at)
    points = [dataclasses.replace(at, x=x) for x in xs]
    smooth = [surrogate(point, fixed) for point in points]
    traces = [
        line("staircase Q(x)", xs, list(map(staircase, points)), BROWN, shape="hv"),
        line("surrogate, residue r held", xs, smooth, theme.ACCENT, dash="dash"),
        here(at.x, staircase(at)),
    ]
    return Panel(traces, SPAN, {"title": "Q(x)"}, share=1.7, shapes=_outside(at))


def _slopes(at: Point) -> Panel:
    edges = [side * at.clip + beside for side in (-1, 1) for beside in (-1e-9, 1e-9)]
    xs = sorted([*np.linspace(-REACH, REACH, SLOPES).tolist(), *edges])
    values = slopes(at, xs)
    traces = [
        line("gradient of x", xs, values, theme.ACCENT, showlegend=False),
        here(at.x, gradients(at).x, showlegend=False),
    ]
    most = max(2.0 if at.exponent < 1 else 1.0, *values)
    y = {"title": "∂Q/∂x", "range": [-0.1, min(3.0, most) * 1.15]}
    return Panel(traces, {"title": "x (shaded: clipped)", **SPAN}, y, shapes=_outside(at))
