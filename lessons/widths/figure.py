"""The bit-width over d and q_m as contour lines, the allowed side shaded, and the ways of two projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from compression.plots import theme
from compression.quant.quantizer import levels
from lessons.maths.projection import Scalars
from lessons.panels import VIOLET, Panel, here, line, stacked

STEPS = np.geomspace(0.003, 1.0, 60)
CLIPS = np.geomspace(0.15, 2.0, 40)
DRAWN = range(2, 11)


@dataclass(frozen=True)
class WidthsInfo:
    """The three numbers as they are ``now``, and projected: d ``alone`` or all ``together``, to ``most`` bits."""

    now: Scalars
    alone: Scalars
    together: Scalars
    most: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The three points as a table."""
        points = {"now": self.now, "projecting d alone": self.alone, "projecting all": self.together}
        return [
            {
                "point": name,
                "d": round(point.step, 5),
                "q_m": round(point.clip, 5),
                "t": round(point.exponent, 5),
                "bits": round(point.bits, 3),
            }
            for name, point in points.items()
        ]


def widths_figure(info: WidthsInfo) -> go.Figure:
    """Contour lines of whole bit-widths; dotted lines from where you are to both projections."""
    traces, notes = [_allowed(info)], []
    for bits in DRAWN:
        xs = CLIPS**info.now.exponent / levels(bits)
        bound = bits == info.most
        color, width = (theme.HIGHLIGHT, 3) if bound else (theme.FAINT, 1)
        traces.append(line(f"{bits} bits", xs, CLIPS, color, width=width, showlegend=False))
        if STEPS[0] < xs[-1] < STEPS[-1]:
            place = {"x": np.log10(xs[-1]), "y": np.log10(CLIPS[-1]), "yanchor": "bottom", "showarrow": False}
            font = {"size": 11, "color": theme.HIGHLIGHT if bound else theme.MUTED}
            notes.append({**place, "text": f"{bits} bits" if bound else f"{bits}", "font": font})
    for name, end, color, symbol in (
        ("d alone", info.alone, theme.ACCENT, "circle"),
        ("all three", info.together, VIOLET, "square"),
    ):
        way = line(name, [info.now.step, end.step], [info.now.clip, end.clip], color, dash="dot")
        traces.append({**way, "mode": "lines+markers", "marker": {"size": [0, 12], "symbol": symbol, "color": color}})
    traces.append(here(info.now.step, info.now.clip))
    x = {**_axis(STEPS), "title": "step d", "tickvals": [0.003, 0.01, 0.03, 0.1, 0.3, 1]}
    y = {**_axis(CLIPS, 0.06), "title": "clipping bound q_m", "tickvals": [0.2, 0.5, 1, 2]}
    return stacked([Panel(traces, x, y, notes=notes)], 350, uirevision="widths", hovermode="closest")


def _axis(values: np.ndarray, room: float = 0.0) -> dict[str, Any]:
    return {"type": "log", "range": [np.log10(values[0]), np.log10(values[-1]) + room]}


def _allowed(info: WidthsInfo) -> dict[str, Any]:
    """The side with at most the allowed bits, shaded."""
    xs = [*CLIPS**info.now.exponent / levels(info.most), STEPS[-1], STEPS[-1]]
    name, fill = f"at most {info.most} bits", theme.rgba(theme.ACCENT, 0.1)
    return line(name, xs, [*CLIPS, CLIPS[-1], CLIPS[0]], fill, width=0, fill="toself", fillcolor=fill, hoverinfo="skip")
