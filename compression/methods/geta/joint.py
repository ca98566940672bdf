"""The joint step's two rules (GETA, arXiv 2502.16638, section 4.3): the forget rate gamma, and d of each quantizer.

On the redundant units the update is ``s = -alpha h - gamma (c + d r)`` (eq. G7), with h the update direction, c the
clipped values and r the rounding residue in units of d, so that ``c + d r`` is the quantized value (eq. G6). The rules
choose gamma and, for each layer, d such that ``<h, s> <= -eta (1 - zeta) alpha |h|^2`` (eq. G8): the term in c costs at
most ``(1 - eta) alpha |h|^2``, the layers' terms in r together at most ``zeta eta alpha |h|^2``. Equation numbers are
those of ``docs/derivations/geta-joint-step.md``, which has the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from compression.errors import CompressionError

ETA, ZETA = 0.999, 0.9
"""The paper's constants eta and zeta, both in (0, 1)."""
PUBLISHED, HALF, UNIFORM = "published", "half", "uniform"
FORGETTING: Mapping[str, float | None] = {PUBLISHED: ETA, HALF: 0.5, UNIFORM: None}
"""How fast redundant units are forgotten → eta of eq. G8; ``None``: evenly, whatever <h, s> is. The published one
leaves the term in c a thousandth of the descent: a unit that is still useful is hardly forgotten before it is cut."""
LARGEST, GRADUAL, LEARNED = "largest", "gradual", "learned"
STEP_RULES = (LARGEST, GRADUAL, LEARNED)
"""Which d a layer takes where eq. G8 holds for several: the largest of its range, as published; one that grows evenly,
in bits, to the largest over the joint stage; or the learned one. Every smaller d satisfies eq. G8 too."""
_NEGLIGIBLE = 1e-8


def forget_rates(
    c_dot_h: torch.Tensor,
    c_norm: torch.Tensor,
    h_squared: torch.Tensor,
    alpha: float,
    steps_to_shrink: int,
    eta: float | None = ETA,
) -> torch.Tensor:
    """Return gamma of each group, the share of the redundant values to subtract in this step, 0..1 (section 4.3, eq.
    G9).

    Args:
        c_dot_h, c_norm: <c, h> and |c| over each group's redundant units, fp64 [groups].
        h_squared: |h|^2 over the same units.
        alpha: learning rate of the weights.
        steps_to_shrink: remaining shrinking steps of the pruning period, this one included.
        eta: one of :data:`FORGETTING`.
    """
    # <c, h> >= 0: subtracting c descends; 1 / (remaining steps) reaches zero with the last one.
    rates = torch.full_like(c_dot_h, 1.0 / steps_to_shrink)
    if eta is not None:
        # <c, h> < 0: at most the gamma with -gamma <c, h> = (1 - eta) alpha |h|^2.
        limits = (1 - eta) * alpha * h_squared / -c_dot_h
        rates = torch.where(c_dot_h < 0, torch.minimum(rates, limits), rates)
    # |c| = 0: nothing is left to subtract.
    return torch.where(c_norm < _NEGLIGIBLE, 0.0, rates)


def forget_rate(
    c_dot_h: float, c_norm: float, h_squared: float, alpha: float, steps_to_shrink: int, eta: float | None = ETA
) -> float:
    """:func:`forget_rates` of one group, in numbers."""
    along, norm, size = (torch.tensor([number], dtype=torch.float64) for number in (c_dot_h, c_norm, h_squared))
    return float(forget_rates(along, norm, size, alpha, steps_to_shrink, eta))


def check_rules(joint_steps: object, forgetting: object) -> None:
    """Check the names of both rules.

    Raises:
        CompressionError: one of them is none of :data:`STEP_RULES` or :data:`FORGETTING`.
    """
    for option, name, known in (("joint_steps", joint_steps, STEP_RULES), ("forgetting", forgetting, FORGETTING)):
        if name not in known:
            raise CompressionError(f"{option} must be one of {', '.join(known)}, not {name!r}")


@dataclass(frozen=True, eq=False)
class LayerTerms:
    """Every quantized layer of every group in eq. G8, as vectors of one length, fp64.

    ``group`` (int64) is the group of each; ``r_dot_h`` is <r, h> over its redundant slices, ``lowest..highest`` bound
    its d, and ``preferred`` is the d to take where eq. G8 allows it.
    """

    group: torch.Tensor
    r_dot_h: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor
    preferred: torch.Tensor

    @property
    def target(self) -> torch.Tensor:
        """The preferred d, inside the bounds."""
        return torch.minimum(torch.maximum(self.preferred, self.lowest), self.highest)


def step_sizes(
    gamma: torch.Tensor, terms: LayerTerms, h_squared: torch.Tensor, alpha: float, eta: float | None = ETA
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (gamma of each group, d of each layer) for which eq. G8 holds (section 4.3, eq. G10 and G11).

    Each layer takes its target d, or the largest d below it that satisfies the inequality; without ``eta`` nothing has
    to be satisfied. ``gamma`` is lowered, in closed form, where even the lowest d of a layer does
    not satisfy it; lowering gamma never violates eq. G8.
    """
    target = terms.target
    if eta is None:
        return gamma, target
    # Only layers with <r, h> < 0 cost descent.
    climbing = (gamma[terms.group] > 0) & (terms.r_dot_h < 0)
    # Those of a group share its allowance zeta eta alpha |h|^2 equally.
    count = torch.zeros_like(gamma).index_add_(0, terms.group, climbing.to(gamma.dtype))
    share = (ZETA * eta * alpha * h_squared / count)[terms.group]
    # eq. G11: gamma d_min |<r, h>| <= share, for every layer.
    limits = torch.where(climbing, share / (terms.lowest * -terms.r_dot_h), torch.inf)
    gamma = gamma.scatter_reduce(0, terms.group, limits, "amin").clamp(min=0)
    # eq. G10: the largest d with gamma d |<r, h>| <= share, between the lowest d and the target.
    rate = gamma[terms.group]
    largest = torch.maximum(share / (rate * -terms.r_dot_h), terms.lowest)
    return gamma, torch.where(climbing & (rate > 0), torch.minimum(largest, target), target)


def descent(gamma: float, c_dot_h: float, residue_costs: float, h_squared: float, alpha: float) -> float:
    """``<h, s> = -alpha |h|^2 - gamma (<c, h> + sum of d <r, h>)`` (eq. G8); ``residue_costs``: that sum."""
    return -alpha * h_squared - gamma * (c_dot_h + residue_costs)


def allowed_descent(h_squared: float, alpha: float, eta: float = ETA) -> float:
    """The bound ``-eta (1 - zeta) alpha |h|^2`` of :func:`descent` (eq. G8)."""
    return -eta * (1 - ZETA) * alpha * h_squared


@dataclass(frozen=True)
class LayerChoice:
    """The new d (``step``) of one quantized layer, within ``lowest..highest``.

    Where each channel has a separate clipping bound, all three are in units of these bounds, and r is scaled by them.

    ``r_dot_h`` is <r, h> over its redundant slices; ``cosine`` divides it by |r| of these slices and |h| of the group.
    Where it is 0 or more, every d descends.
    """

    step: float
    lowest: float
    highest: float
    r_dot_h: float
    cosine: float


@dataclass(frozen=True)
class JointDecision:
    """One joint step of one group: every number of the descent argument, for events and for checks.

    ``uniform`` is the forget rate without eq. G8; ``cosine`` that of c and h; ``descent`` the value of <h, s>;
    ``allowed`` its bound, which ``eta`` sets; both are ``None`` where units are forgotten evenly.
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
    eta: float | None
    allowed: float | None
