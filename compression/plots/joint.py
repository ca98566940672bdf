"""GETA's joint stage as the run reported it: the forget rate of each group and the step size of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go

LEAST_RATE = 1e-6  # drawn at the foot of a logarithmic axis; the table has the number itself
UNSTATED_ETA = 0.999  # of decisions that were recorded before a run stated its own
SLOWED = 0.05  # of the even rate
_BEGIN = "The channels to be removed lose a share γ of themselves at each step of the joint stage"
_STEPS = "the step size d of the group's quantizers moves within what the bit-widths allow (shaded)"


@dataclass(frozen=True)
class JointInfo:
    """What the run decided: ``(step, group, facts)``, oldest first."""

    decisions: tuple[tuple[float, str, Mapping[str, Any]], ...]

    @property
    def groups(self) -> list[str]:
        """The groups that lost channels, in the order of their first loss."""
        return list(dict.fromkeys(group for _, group, _ in self.decisions))

    @property
    def explanation(self) -> str:
        """How this run forgot channels, in words."""
        decisions = [facts for _, _, facts in self.decisions]
        etas = [_eta(facts) for facts in decisions]
        eta = etas[-1] if etas else UNSTATED_ETA
        if eta is None:
            return (
                f"{_BEGIN}. This run took it evenly: γ is 1 divided by the shrinking steps that remain, whether or not "
                f"the step lowers the loss, so nothing is guaranteed. What is left when a pruning period ends is no "
                f"more than rounding; {_STEPS}."
            )
        slowed = sum(facts["rate"] < SLOWED * facts["uniform"] for facts in decisions) / max(1, len(decisions))
        return (
            f"{_BEGIN}. Where that works against the training step, it may cost at most {100 * (1 - eta):.3g} % of the "
            f"step's descent, which limits γ (ticks; dotted: forgetting evenly). So that all of it descends, {_STEPS}. "
            f"What is left when a pruning period ends is removed at once: in {100 * slowed:.0f} % of these decisions γ "
            f"was below a twentieth of the even rate."
        )

    def decided(self, group: str) -> list[tuple[float, Mapping[str, Any]]]:
        """One group's steps and facts."""
        return [(step, facts) for step, name, facts in self.decisions if name == group]

    def rows(self, group: str) -> list[dict[str, Any]]:
        """One group as a table: γ, its limit, γ without the inequality, and d within its range for each layer."""
        rows = []
        for step, facts in self.decided(group):
            row = {"step": step, "units leaving": facts["units"], "γ": facts["rate"], "evenly": facts["uniform"]}
            row["limit of γ"] = rate_limit(facts)
            for layer, (d, low, high, *_) in facts["layers"].items():
                row |= {f"d of {layer}": d, f"least d of {layer}": low, f"most d of {layer}": high}
            rows.append(row)
        return rows


def joint_info(events: Sequence[Mapping[str, Any]]) -> JointInfo:
    """From the events of a run; empty without a joint stage."""
    return JointInfo(
        tuple(
            (float(event["step"]), group, facts)
            for event in events
            if event["kind"] == "group"
            for group, facts in event.get("joint", {}).items()
        )
    )


def rate_limit(facts: Mapping[str, Any]) -> float | None:
    """The largest γ that eta allows one decision where <c, h> < 0: (1 - eta) α |h|² / -<c, h>.

    ``None``: there is no limit, as taking c away descends, or as the run forgets evenly.
    """
    eta, c_dot_h = _eta(facts), facts["ch"]
    if eta is None or c_dot_h is None or c_dot_h >= 0:
        return None
    return float((1 - eta) * facts["alpha"] * facts["hh"] / -c_dot_h)


def _eta(facts: Mapping[str, Any]) -> float | None:
    """The constant of a decision."""
    return facts.get("eta", UNSTATED_ETA)


def rate_figure(info: JointInfo, group: str, stages: Sequence[base.RunStage] = ()) -> go.Figure:
    """γ of one group over the joint stage (logarithmic), its limit and the even rate; the other groups faint."""
    fig = base.figure(260, uirevision=f"gamma {group}", hovermode="closest")
    fig.update_layout(margin={"t": 24})
    for name in [*(other for other in info.groups if other != group), group]:
        decided, chosen = info.decided(name), name == group
        fig.add_trace(
            base.scatter(
                [step for step, _ in decided],
                [max(LEAST_RATE, facts["rate"]) for _, facts in decided],
                "lines+markers" if chosen else "markers",
                name=name,
                marker={"size": 7, "color": theme.SERIES[0]} if chosen else {"size": 4, "color": theme.FAINT},
                line={"width": 1, "color": theme.rgba(theme.SERIES[0], 0.4)},
                showlegend=False,
                hovertemplate=f"{name}<br>step %{{x}}: γ = %{{y:.3g}}<extra></extra>",
            )
        )
    decided = info.decided(group)
    fig.add_trace(
        base.scatter(
            [step for step, _ in decided],
            [max(LEAST_RATE, facts["uniform"]) for _, facts in decided],
            "lines",
            name="forgetting evenly",
            line={"width": 1, "dash": "dot", "color": theme.MUTED},
            hovertemplate="step %{x}: evenly %{y:.3g}<extra></extra>",
        )
    )
    limits = [(step, limit) for step, facts in decided if (limit := rate_limit(facts)) is not None]
    if limits:
        fig.add_trace(
            base.scatter(
                [step for step, _ in limits],
                [max(LEAST_RATE, limit) for _, limit in limits],
                name="limit",
                marker={"symbol": "line-ew-open", "size": 10, "color": theme.HIGHLIGHT, "line": {"width": 1.5}},
                hovertemplate="step %{x}: at most %{y:.3g}<extra></extra>",
            )
        )
    fig.update_yaxes(type="log", title="γ", exponentformat="power", dtick=1)
    return _over_joint(fig, info, stages)


def step_figure(info: JointInfo, group: str, stages: Sequence[base.RunStage] = ()) -> go.Figure:
    """d of the group's layers (solid) within the range its bit-widths allow (shaded)."""
    fig = base.figure(260, uirevision=f"d {group}", hovermode="closest")
    fig.update_layout(margin={"t": 24})
    decided = info.decided(group)
    layers = list(dict.fromkeys(layer for _, facts in decided for layer in facts["layers"]))
    for number, layer in enumerate(layers):
        color = theme.SERIES[number % len(theme.SERIES)]
        known = [(step, facts["layers"][layer]) for step, facts in decided if layer in facts["layers"]]
        steps = [step for step, _ in known]
        lower, upper = [values[1] for _, values in known], [values[2] for _, values in reversed(known)]
        band = {"fill": "toself", "fillcolor": theme.rgba(color, 0.15), "line": {"width": 0}, "showlegend": False}
        fig.add_trace(base.scatter([*steps, *reversed(steps)], [*lower, *upper], "lines", **band))
        hover = f"{layer}<br>step %{{x}}: d = %{{y:.4g}}<extra></extra>"
        line = {"width": 2, "color": color}
        sizes = [values[0] for _, values in known]
        fig.add_trace(base.scatter(steps, sizes, "lines", name=layer, line=line, hovertemplate=hover))
    fig.update_yaxes(title="d", exponentformat="power")
    return _over_joint(fig, info, stages)


def _over_joint(fig: go.Figure, info: JointInfo, stages: Sequence[base.RunStage]) -> go.Figure:
    """All its steps on the axis, with the stage's name above."""
    steps = [step for step, _, _ in info.decisions]
    within = [stage for stage in stages if steps and stage.start <= max(steps) and stage.end >= min(steps)]
    base.shade(fig, within)
    fig.update_xaxes(title="step", range=[min(steps), max(steps)] if len(set(steps)) > 1 else None)
    return fig
