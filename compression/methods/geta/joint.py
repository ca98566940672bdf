"""The joint step: how fast redundant units are forgotten, and which steps of the quantizers keep that a descent.

On the redundant units the update is ``s = -alpha h - gamma (c + d r)`` with h the update direction, c the clipped
values and r the rounding residue in units of the step d, so that ``c + d r`` is the quantized value. The rules below
choose ``gamma`` and, per layer, ``d`` such that ``<h, s> <= -eta (1 - zeta) alpha |h|^2`` (paper section 4.3; proof
in a few lines: the term in c costs at most ``(1 - eta) alpha |h|^2`` and the layers' terms in r together at most
``zeta eta alpha |h|^2``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compression.errors import CompressionError

ETA, ZETA = 0.999, 0.9
LARGEST, GRADUAL, LEARNED = "largest", "gradual", "learned"
STEP_RULES = (LARGEST, GRADUAL, LEARNED)
"""Which step d a layer takes where the inequality leaves the choice, which it mostly does (every smaller d descends as
well): the largest of its range, as published; one that grows evenly, in bits, to the largest over the joint stage; or
the one it has learned."""
_NOTHING = 1e-8


def forget_rate(c_dot_h: float, c_norm: float, h_squared: float, alpha: float, shrinks_left: int) -> float:
    """``gamma``: how much of the redundant values to take away in this step, 0..1.

    Uniform forgetting ``1 / shrinks_left`` (all is gone after the last one) unless it would climb; then the rate that
    the inequality allows. Zero when the values are gone already, judged by their norm.
    """
    if c_norm < _NOTHING:
        return 0.0
    uniform = 1.0 / shrinks_left
    if c_dot_h >= 0:
        return uniform
    return min(uniform, (1 - ETA) * alpha * h_squared / -c_dot_h)


def check_rule(name: object) -> None:
    """Refuse an unknown rule.

    Raises:
        CompressionError: naming it and the known ones.
    """
    if name not in STEP_RULES:
        raise CompressionError(f"joint_steps must be one of {', '.join(STEP_RULES)}, not {name!r}")


@dataclass(frozen=True)
class LayerTerm:
    """What one quantized layer brings: ``r_dot_h`` over its redundant slices, and the bounds of its step.

    ``preferred``: the step to take where the inequality leaves the choice (``None``: the largest, as published).
    """

    r_dot_h: float
    lowest: float
    highest: float
    preferred: float | None = None

    @property
    def wanted(self) -> float:
        """The preferred step, inside the bounds."""
        return self.highest if self.preferred is None else min(max(self.preferred, self.lowest), self.highest)


def step_sizes(gamma: float, layers: Sequence[LayerTerm], h_squared: float, alpha: float) -> tuple[float, list[float]]:
    """``(gamma, [d per layer])``: the wanted steps, or the largest below them for which the inequality holds.

    Layers whose residue climbs share the allowance equally. Where even the smallest step climbs too much, ``gamma``
    is lowered until it does not (in closed form, rather than by repeated shrinking); lowering it never breaks the
    inequality.
    """
    climbing = [term for term in layers if gamma > 0 and term.r_dot_h < 0]
    if not climbing:
        return gamma, [term.wanted for term in layers]
    share = ZETA * ETA * alpha * h_squared / len(climbing)
    gamma = min(gamma, *(share / (term.lowest * -term.r_dot_h) for term in climbing))
    if gamma <= 0:
        return 0.0, [term.wanted for term in layers]
    chosen = [
        term.wanted if term.r_dot_h >= 0 else min(max(share / (gamma * -term.r_dot_h), term.lowest), term.wanted)
        for term in layers
    ]
    return gamma, chosen


def descent(gamma: float, c_dot_h: float, residue_costs: float, h_squared: float, alpha: float) -> float:
    """``<h, s> = -alpha |h|^2 - gamma (<c, h> + sum of d <r, h>)``; ``residue_costs`` is that sum over the layers."""
    return -alpha * h_squared - gamma * (c_dot_h + residue_costs)


def allowed_descent(h_squared: float, alpha: float) -> float:
    """The bound ``-eta (1 - zeta) alpha |h|^2`` that :func:`descent` must not exceed."""
    return -ETA * (1 - ZETA) * alpha * h_squared


@dataclass(frozen=True)
class LayerChoice:
    """What was chosen for one quantized layer: its new step ``d`` within ``lowest`` … ``highest``.

    Where each channel has a bound of its own, all three are in units of these bounds, and r is scaled by them.

    ``r_dot_h`` is <r, h> over its redundant slices; ``cosine`` that product over the norms of these r and of the
    group's whole h. Where it is 0 or more any step descends and the largest is taken.
    """

    step: float
    lowest: float
    highest: float
    r_dot_h: float
    cosine: float


@dataclass(frozen=True)
class JointDecision:
    """One joint step of one group, for events and for whoever wants to replay the descent argument.

    ``uniform`` is the rate before the inequality had its say; ``cosine`` that of c and h; ``descent`` the value of
    ``<h, s> = -alpha |h|^2 - gamma (<c, h> + sum of d <r, h>)``; ``allowed`` the bound ``-eta (1 - zeta) alpha |h|^2``.
    """

    group: str
    units: int
    forget_rate: float
    uniform: float
    alpha: float
    h_squared: float
    c_dot_h: float
    cosine: float
    layers: dict[str, LayerChoice]
    descent: float
    allowed: float
