"""What runs with one rule switched off lose against the dense model, beside the run with all rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from compression.plots import theme
from lessons.panels import Panel, bars, stacked, upright
from lessons.stages.ablations import Ablation


@dataclass(frozen=True)
class RulesInfo:
    """The runs from most lost to least, what is lost with ``all_rules``, and the run looked at."""

    runs: Sequence[Ablation]
    all_rules: float
    run: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The figure as a table."""
        return [
            {
                "rule switched off": each.rule,
                "points lost": round(each.lost, 2),
                "of them by the rule": round(each.lost - self.all_rules, 2),
                "units gone, %": round(100 * each.removed, 1),
                "relative BOPs, %": round(100 * each.rel_bops, 2),
            }
            for each in self.runs
        ]


def rules_figure(info: RulesInfo) -> go.Figure:
    """Horizontal bars, the most lost at the top; the dashed line is the run with all rules."""
    runs = info.runs[::-1]
    lost, names = [each.lost for each in runs], [each.rule for each in runs]
    hues = [theme.ACCENT if each.run == info.run else theme.rgba(theme.ACCENT, 0.4) for each in runs]
    hover, labels = "%{y}, off: %{x:.2f} points lost", [f"{each:.1f}" for each in lost]
    bar = bars("lost", lost, names, hues, orientation="h", text=labels, hover=hover, showlegend=False)
    bar |= {"textposition": "outside", "cliponaxis": False}
    place = {"x": info.all_rules, "y": 1, "yref": "domain", "yanchor": "bottom", "showarrow": False}
    note = {**place, "text": "all rules on", "font": {"size": 11, "color": theme.HIGHLIGHT}}
    x = {"title": "points lost without the rule", "rangemode": "tozero"}
    mark = upright(info.all_rules, theme.HIGHLIGHT, 2, "dash")
    panel = Panel([bar], x, {"type": "category"}, shapes=[mark], notes=[note])
    return stacked([panel], 370, uirevision="rules", hovermode="closest", bargap=0.35)
