"""The share of each singular component, and below it the output error over the rank for both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from compression.plots import theme
from compression.posttraining.low_rank import Factorization
from lessons.panels import VIOLET, Panel, bars, here, line, stacked, upright

PLAIN, WHITENED = "plain", "whitened"
LABELS = {PLAIN: "plain SVD", WHITENED: "whitened SVD"}
_LOOKS = {PLAIN: (VIOLET, "dash"), WHITENED: (theme.ACCENT, "solid")}


def rank_figure(ways: Mapping[str, Factorization], way: str, rank: int, limit: float) -> go.Figure:
    """Above: each component of ``way``, the first ``rank`` marked. Below: output errors, a line at ``limit``."""
    ranks = np.arange(1, len(ways[way].singular) + 1)
    hues = [_LOOKS[way][0] if at <= rank else theme.rgba(theme.MUTED, 0.45) for at in ranks]
    hover = "component %{x}: %{y:.3g} %"
    above = bars("components", ranks, 100 * ways[way].energy, hues, showlegend=False, hover=hover)
    below = []
    for name, each in ways.items():
        color, dash = _LOOKS[name]
        hover = f"{LABELS[name]}: %{{y:.3g}} % at rank %{{x}}<extra></extra>"
        below.append(line(LABELS[name], ranks, 100 * each.outputs[1:], color, dash=dash, hovertemplate=hover))
    now = 100 * float(ways[way].outputs[rank])
    below.append(here(rank, now, cliponaxis=False, hovertemplate="%{y:.3g} % at rank %{x}<extra></extra>"))
    axis = {"range": [0.4, len(ranks) + 0.6]}
    boundary = upright(limit, theme.MUTED, dash="dot")
    note = {"x": limit, "y": 1, "yref": "domain", "text": "← saves", "showarrow": False}
    note |= {"xanchor": "right", "xshift": -4, "yanchor": "top", "font": {"color": theme.MUTED, "size": 12}}
    return stacked(
        [
            Panel([above], axis, {"title": "share of σ², %", "rangemode": "tozero"}, share=0.8),
            Panel(
                below,
                {"title": "rank r", **axis},
                {"title": "output error, %", "rangemode": "tozero"},
                shapes=[boundary],
                notes=[note],
            ),
        ],
        420,
        uirevision="rank",
        hovermode="closest",
        bargap=0.15,
    )


def rows(ways: Mapping[str, Factorization], way: str) -> list[dict[str, Any]]:
    """Both charts as a table."""
    return [
        {
            "rank": rank,
            "σ": round(float(ways[way].singular[rank - 1]), 4),
            "share of σ², %": round(100 * float(ways[way].energy[rank - 1]), 4),
            **{f"{LABELS[name]}, %": round(100 * float(each.outputs[rank]), 4) for name, each in ways.items()},
        }
        for rank in range(1, len(ways[way].singular) + 1)
    ]
