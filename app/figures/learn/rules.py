"""What runs with one rule switched off lose against the dense model, beside the run with all rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures.learn.panels import Panel, stacked, upright


@dataclass(frozen=True)
class RuleBar:
    """One rule: points of test accuracy ``lost`` without it, share of units ``gone``, relative ``bops``."""

    rule: str
    lost: float
    gone: float
    bops: float


@dataclass(frozen=True)
class RulesInfo:
    """A bar for each rule from most lost to least, what is lost with ``all_rules``, and the rule looked at."""

    bars: tuple[RuleBar, ...]
    all_rules: float
    looked_at: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The picture as a table."""
        return [
            {
                "rule switched off": bar.rule,
                "points lost": round(bar.lost, 2),
                "of them by the rule": round(bar.lost - self.all_rules, 2),
                "units gone, %": round(100 * bar.gone, 1),
                "relative BOPs, %": round(100 * bar.bops, 2),
            }
            for bar in self.bars
        ]


def rules_info(bars: Sequence[RuleBar], all_rules: float, looked_at: str) -> RulesInfo:
    """What the picture holds."""
    return RulesInfo(tuple(bars), all_rules, looked_at)


def rules_figure(info: RulesInfo) -> go.Figure:
    """Horizontal bars, the most lost at the top; the dashed line is the run with all rules."""
    shown = info.bars[::-1]
    hues = [theme.ACCENT if bar.rule == info.looked_at else theme.rgba(theme.ACCENT, 0.4) for bar in shown]
    bars = {
        "type": "bar", "orientation": "h", "x": [bar.lost for bar in shown], "y": [bar.rule for bar in shown],
        "marker": {"color": hues}, "text": [f"{bar.lost:.1f}" for bar in shown], "textposition": "outside",
        "cliponaxis": False, "hovertemplate": "%{y}, off: %{x:.2f} points lost<extra></extra>", "showlegend": False,
    }  # fmt: skip
    note = {
        "x": info.all_rules, "y": 1, "yref": "domain", "text": "all rules on", "showarrow": False, "yanchor": "bottom",
        "font": {"size": 11, "color": theme.HIGHLIGHT},
    }  # fmt: skip
    x = {"title": "points lost without the rule", "rangemode": "tozero"}
    panel = Panel(
        [bars], x, {"type": "category"}, shapes=[upright(info.all_rules, theme.HIGHLIGHT, 2, "dash")], notes=[note]
    )
    return stacked([panel], 370, uirevision="rules", hovermode="closest", bargap=0.35)
