"""The bit-width over d and q_m as contour lines, the allowed side shaded, and the ways of two projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures.learn.panels import Panel, here, line, stacked
from compression.quant.projection import Scalars
from compression.quant.quantizer import levels

STEPS = np.geomspace(0.003, 1.0, 60)
CLIPS = np.geomspace(0.15, 2.0, 40)
DRAWN = range(2, 11)


@dataclass(frozen=True)
class WidthsInfo:
    """Where the three numbers are ``now``, and where they come to with d ``alone`` or all ``together``."""

    now: Scalars
    alone: Scalars
    together: Scalars
    most: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The three points as a table."""
        named = {"now": self.now, "projecting d alone": self.alone, "projecting all": self.together}
        return [
            {
                "point": name,
                "d": round(s.step, 5),
                "q_m": round(s.clip, 5),
                "t": round(s.exponent, 5),
                "bits": round(s.bits, 3),
            }
            for name, s in named.items()
        ]


def widths_info(now: Scalars, alone: Scalars, together: Scalars, most: int) -> WidthsInfo:
    """What the picture holds."""
    return WidthsInfo(now, alone, together, most)


def widths_figure(info: WidthsInfo) -> go.Figure:
    """Contour lines of whole bit-widths; arrows are lines from where you are to both projections."""
    traces: list[dict[str, Any]] = [_allowed(info)]
    notes = []
    for bits in DRAWN:
        xs = CLIPS**info.now.exponent / levels(bits)
        strong = bits == info.most
        color = theme.HIGHLIGHT if strong else theme.FAINT
        traces.append(
            line(f"{bits} bits", xs.tolist(), CLIPS.tolist(), color, width=3 if strong else 1, showlegend=False)
        )
        if STEPS[0] < xs[-1] < STEPS[-1]:
            notes.append(_label(f"{bits}", xs[-1], CLIPS[-1], strong))
    for name, end, color, symbol in (
        ("d alone", info.alone, theme.ACCENT, "circle"),
        ("all three", info.together, theme.STYLES["sequential"].color, "square"),
    ):
        way = line(name, [info.now.step, end.step], [info.now.clip, end.clip], color, width=2, dash="dot")
        way |= {"mode": "lines+markers", "marker": {"size": [0, 12], "symbol": symbol, "color": color}}
        traces.append(way)
    traces.append(here(info.now.step, info.now.clip))
    x = {
        "title": "step d",
        "type": "log",
        "range": [np.log10(STEPS[0]), np.log10(STEPS[-1])],
        "tickvals": [0.003, 0.01, 0.03, 0.1, 0.3, 1],
    }
    y = {
        "title": "clipping bound q_m",
        "type": "log",
        "range": [np.log10(CLIPS[0]), np.log10(CLIPS[-1]) + 0.06],
        "tickvals": [0.2, 0.5, 1, 2],
    }
    return stacked([Panel(traces, x, y, notes=notes)], 350, uirevision="widths", hovermode="closest")


def _allowed(info: WidthsInfo) -> dict[str, Any]:
    xs = (CLIPS**info.now.exponent / levels(info.most)).tolist()
    end = float(STEPS[-1])
    area = {"type": "scatter", "mode": "lines", "fill": "toself", "line": {"width": 0}, "hoverinfo": "skip"}
    fill = {"fillcolor": theme.rgba(theme.STYLES["sequential"].color, 0.1), "name": f"at most {info.most} bits"}
    return {**area, **fill, "x": [*xs, end, end], "y": [*CLIPS.tolist(), float(CLIPS[-1]), float(CLIPS[0])]}


def _label(text: str, x: float, y: float, strong: bool) -> dict[str, Any]:
    color = theme.HIGHLIGHT if strong else theme.MUTED
    place = {"x": float(np.log10(x)), "y": float(np.log10(y)), "yanchor": "bottom", "showarrow": False}
    return {**place, "text": f"{text} bits" if strong else text, "font": {"size": 11, "color": color}}
