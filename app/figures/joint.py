"""Inside GETA's joint stage: the forget rate of each group and the step size of its layers, as the run told them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures import base

SERIES = [style.color for name, style in theme.STYLES.items() if name != "dense"]
LEAST_RATE = 1e-6  # drawn at the foot of a logarithmic axis; the table has the number itself


@dataclass(frozen=True)
class JointInfo:
    """What was told of every group at the steps of ``told``: ``(step, group, facts)``, oldest first."""

    told: tuple[tuple[float, str, Mapping[str, Any]], ...]

    @property
    def groups(self) -> list[str]:
        """The groups that lost channels, in the order of their first loss."""
        return list(dict.fromkeys(group for _, group, _ in self.told))

    def of(self, group: str) -> list[tuple[float, Mapping[str, Any]]]:
        """One group's steps and facts."""
        return [(step, facts) for step, name, facts in self.told if name == group]

    def rows(self, group: str) -> list[dict[str, Any]]:
        """One group as a table: γ, γ without the inequality, and d within its range for each of its layers."""
        found = []
        for step, facts in self.of(group):
            row = {"step": step, "units leaving": facts["units"], "γ": facts["rate"], "evenly": facts["uniform"]}
            for layer, (d, low, high, *_) in facts["layers"].items():
                row |= {f"d of {layer}": d, f"least d of {layer}": low, f"most d of {layer}": high}
            found.append(row)
        return found


def joint_info(events: Sequence[Mapping[str, Any]]) -> JointInfo:
    """From the events of a run; empty where no joint stage was told of."""
    return JointInfo(
        tuple(
            (float(event["step"]), group, facts)
            for event in events
            if event["kind"] == "group"
            for group, facts in event.get("joint", {}).items()
        )
    )


def rate_figure(info: JointInfo, group: str, stages: Sequence[base.Stage] = ()) -> go.Figure:
    """γ of one group over the joint stage (logarithmic) beside the even rate; the other groups faint."""
    fig = base.figure(260, uirevision=f"gamma {group}", hovermode="closest")
    fig.update_layout(margin={"t": 24})
    for name in [*(other for other in info.groups if other != group), group]:
        told, chosen = info.of(name), name == group
        fig.add_trace(
            go.Scatter(
                x=[step for step, _ in told],
                y=[max(LEAST_RATE, facts["rate"]) for _, facts in told],
                name=name,
                mode="lines+markers" if chosen else "markers",
                marker={"size": 7, "color": SERIES[0]} if chosen else {"size": 4, "color": theme.FAINT},
                line={"width": 1, "color": theme.rgba(SERIES[0], 0.4)},
                showlegend=False,
                hovertemplate=f"{name}<br>step %{{x}}: γ = %{{y:.3g}}<extra></extra>",
            )
        )
    told = info.of(group)
    fig.add_trace(
        go.Scatter(
            x=[step for step, _ in told],
            y=[max(LEAST_RATE, facts["uniform"]) for _, facts in told],
            name="forgetting evenly",
            mode="lines",
            line={"width": 1, "dash": "dot", "color": theme.MUTED},
            hovertemplate="step %{x}: evenly %{y:.3g}<extra></extra>",
        )
    )
    fig.update_yaxes(type="log", title="γ", exponentformat="power", dtick=1)
    return _over_joint(fig, info, stages)


def step_figure(info: JointInfo, group: str, stages: Sequence[base.Stage] = ()) -> go.Figure:
    """d of the group's layers (solid) within the range its bit-widths allow (shaded)."""
    fig = base.figure(260, uirevision=f"d {group}", hovermode="closest")
    fig.update_layout(margin={"t": 24})
    told = info.of(group)
    layers = list(dict.fromkeys(layer for _, facts in told for layer in facts["layers"]))
    for number, layer in enumerate(layers):
        color = SERIES[number % len(SERIES)]
        known = [(step, facts["layers"][layer]) for step, facts in told if layer in facts["layers"]]
        steps = [step for step, _ in known]
        fig.add_trace(
            go.Scatter(
                x=[*steps, *reversed(steps)],
                y=[values[1] for _, values in known] + [values[2] for _, values in reversed(known)],
                fill="toself", fillcolor=theme.rgba(color, 0.15), line={"width": 0}, hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip
        fig.add_trace(
            go.Scatter(
                x=steps, y=[values[0] for _, values in known], name=layer, mode="lines",
                line={"width": 2, "color": color},
                hovertemplate=f"{layer}<br>step %{{x}}: d = %{{y:.4g}}<extra></extra>",
            )
        )  # fmt: skip
    fig.update_yaxes(title="d", exponentformat="power")
    return _over_joint(fig, info, stages)


def _over_joint(fig: go.Figure, info: JointInfo, stages: Sequence[base.Stage]) -> go.Figure:
    """All steps told of on the axis, with the stage's name above."""
    steps = [step for step, _, _ in info.told]
    within = [stage for stage in stages if steps and stage.start <= max(steps) and stage.end >= min(steps)]
    base.shade(fig, within)
    fig.update_xaxes(title="step", range=[min(steps), max(steps)] if len(set(steps)) > 1 else None)
    return fig
