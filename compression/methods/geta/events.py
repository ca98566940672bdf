"""What QASSO decided, as events: enough to replay the descent argument with a run's own numbers."""

from __future__ import annotations

from typing import Any

from compression.methods.base import Reporter
from compression.methods.geta.joint import JointDecision
from compression.methods.geta.qasso import QASSO

EVENTS_A_PERIOD = 40
"""Joint steps reported of each pruning period, evenly spread; its first and last ones always."""
DIGITS = 5


def report_decisions(optimizer: QASSO, report: Reporter) -> None:
    """Report what the last step decided: nothing outside the joint stage, at most one event a step within.

    ``chosen``: group → ``[[unit, score], …]``, the units that are removed in this pruning period, least score first;
    ``until``: the step after which they are zero; ``spared``: group → units that scored less but remain, as a bound
    protects their group; ``next_score``: the least score of the others. ``joint``: group → ``units``, ``rate``
    (gamma), ``uniform`` (gamma without the inequality),
    ``alpha``, ``hh`` (|h|^2), ``ch`` (<c, h>), ``cosine`` (of c and h), ``descent`` (<h, s>), ``allowed`` (its bound,
    which ``eta`` sets; both null where units are forgotten evenly) and ``layers``: layer →
    ``[d, lowest, highest, <r, h>, cosine]``.
    """
    facts: dict[str, Any] = {}
    if optimizer.choice is not None:
        facts["chosen"] = {
            group: [[unit, _short(score)] for unit, score in units.items()]
            for group, units in optimizer.choice.score.items()
        }
        shrinking = optimizer.stages.period(optimizer.steps_done).steps_to_shrink
        facts["until"] = optimizer.steps_done + max(0, shrinking - 1)
        facts["spared"] = optimizer.choice.spared
        facts["next_score"] = None if optimizer.choice.next_score is None else _short(optimizer.choice.next_score)
    if optimizer.joint_step is not None and _due(optimizer):
        facts["joint"] = {decision.group: _joint(decision) for decision in optimizer.decisions}
    if facts:
        report.decision(optimizer.steps_done, **facts)


def _due(optimizer: QASSO) -> bool:
    period = optimizer.stages.period(optimizer.steps_done)
    apart = -(-period.length // EVENTS_A_PERIOD)
    return (period.position - 1) % apart == 0 or period.steps_to_shrink == 1


def _joint(decision: JointDecision) -> dict[str, Any]:
    return {
        "units": decision.units,
        "rate": _short(decision.forget_rate),
        "uniform": _short(decision.uniform),
        "alpha": _short(decision.alpha),
        "hh": _short(decision.h_squared),
        "ch": _short(decision.c_dot_h),
        "cosine": _short(decision.cosine),
        "descent": _short(decision.descent),
        "eta": decision.eta,
        "allowed": None if decision.allowed is None else _short(decision.allowed),
        "layers": {
            layer: [_short(v) for v in (choice.step, choice.lowest, choice.highest, choice.r_dot_h, choice.cosine)]
            for layer, choice in decision.layers.items()
        },
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
