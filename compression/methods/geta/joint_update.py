"""The joint step on the redundant units of all groups: products, gamma and d, subtraction (GETA, section 4.3).

Equation numbers (eq. G…) are those of ``docs/derivations/geta-joint-step.md``; the two rules are in :mod:`.joint`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression.methods.geta.bounds import BitBounds
from compression.methods.geta.joint import (
    JointDecision,
    LayerChoice,
    LayerTerm,
    allowed_descent,
    descent,
    forget_rate,
    step_sizes,
)
from compression.pruning.units import Slice, Units
from compression.quant.kernels import working_dtype
from compression.quant.quantizer import Quantizer


@dataclass(frozen=True, eq=False)
class Part:
    """The redundant positions of one slice; ``site`` is the index of its quantizer among the bit bounds' sites."""

    piece: Slice
    indices: torch.Tensor
    site: int | None


@dataclass(frozen=True, eq=False)
class RedundantSlices:
    """The ``count`` redundant units of one group in one pruning period, as parts of parameters."""

    group: str
    count: int
    parts: tuple[Part, ...]


def redundant_slices(units: Units, redundant: Sequence[int], bounds: BitBounds) -> list[RedundantSlices]:
    """Return the redundant units (global numbers) as positions in parameters; computed once a period."""
    site_of = {site.quantizer: index for index, site in enumerate(bounds.sites) if site.kind == "weight"}
    groups = []
    for index, local in units.split(redundant).items():
        parts = []
        for piece in units[index].slices:
            site = None if piece.quantizer is None else site_of[piece.quantizer]
            parts.append(Part(piece, piece.indices(local.to(piece.positions.device)), site))
        groups.append(RedundantSlices(units[index].id, len(local), tuple(parts)))
    return groups


def apply_joint_step(
    groups: Sequence[RedundantSlices],
    directions: Mapping[nn.Parameter, torch.Tensor],
    bounds: BitBounds,
    steps: Sequence[float],
    alpha: float,
    steps_to_shrink: int,
    preferred: Sequence[float],
    eta: float | None,
    progress: torch.Tensor,
) -> list[JointDecision]:
    """Subtract ``gamma (c + d r)`` from the redundant units and set d of their layers (section 4.3, eq. G7 to G11).

    The caller takes the other part of eq. G7, the step along h.

    Args:
        groups: the redundant units of this pruning period.
        directions: h of every parameter that has a gradient.
        bounds: the quantizers; their d is written.
        steps: d of every site before this update, to which the residues r belong.
        alpha: learning rate of the weights.
        steps_to_shrink: remaining shrinking steps of the period, this one included.
        preferred: d of every site to take where eq. G8 allows it.
        eta: one of :data:`.joint.FORGETTING`.
        progress: of every site, the share of the reductions of its bit bounds that have happened.
    """
    # Bounds of d at the present b_u and b_l, which as published are the final ones by now (eq. G3).
    lowest, highest = (bound.tolist() for bound in bounds.range(progress))
    # c, r and their products with h, of all groups, read from the device at once (eq. G6).
    measured = [_Products(group, directions, steps) for group in groups]
    flat = torch.cat([each.sums for each in measured]).tolist()
    chosen: dict[int, float] = {}
    rates: list[float] = []
    for each in measured:
        flat = each.read_sums(flat)
        # gamma by eq. G9; then d of each layer, and gamma again, by eq. G10 and G11.
        rate = forget_rate(each.c_dot_h, each.c_squared**0.5, each.h_squared, alpha, steps_to_shrink, eta)
        terms = [
            LayerTerm(r, lowest[s], highest[s], preferred[s]) for s, r in zip(each.sites, each.r_dot_h, strict=True)
        ]
        rate, layer_steps = step_sizes(rate, terms, each.h_squared, alpha, eta)
        # A layer with units in several groups takes the smallest of their d, which keeps eq. G8 for each of them.
        for site, d in zip(each.sites, layer_steps, strict=True):
            chosen[site] = min(d, chosen.get(site, d))
        rates.append(rate)
    final = bounds.steps()
    for site, d in chosen.items():
        final[site] = d
    bounds.write(final)
    # x <- x - gamma (c + d r) with the new d.
    for each, rate in zip(measured, rates, strict=True):
        each.subtract(rate, chosen)
    return [
        each.decision(rate, chosen, lowest, highest, alpha, 1 / steps_to_shrink, eta)
        for each, rate in zip(measured, rates, strict=True)
    ]


class _Products:
    """The redundant values x of one group, flat, with c and r of eq. G6 and their products with h.

    ``sums``: <c,h>, <c,c>, <h,h>, then <r,h> and <r,r> of each quantized slice, in the order of ``sites``.
    """

    def __init__(
        self, group: RedundantSlices, directions: Mapping[nn.Parameter, torch.Tensor], steps: Sequence[float]
    ) -> None:
        self.group = group
        self.sites = [part.site for part in group.parts if part.site is not None]
        selected = [part.piece.parameter.index_select(part.piece.dim, part.indices) for part in group.parts]
        self.shapes = [values.shape for values in selected]
        self.x = [values.flatten().to(working_dtype(values)) for values in selected]
        self.c, self.r, h, products = [], [], [], []
        for part, x in zip(group.parts, self.x, strict=True):
            whole = directions.get(part.piece.parameter)
            h.append(
                torch.zeros_like(x)
                if whole is None
                else whole.index_select(part.piece.dim, part.indices).flatten().to(x.dtype)
            )
            c, r = x, None
            if part.piece.quantizer is not None and part.site is not None:
                c, r = clipped_and_residue(x, part.piece.quantizer, steps[part.site], _bounds(part))
                products += [torch.dot(r, h[-1]), torch.dot(r, r)]
            self.c.append(c)
            self.r.append(r)
        c_all, h_all = torch.cat(self.c), torch.cat(h)
        totals = [torch.dot(c_all, h_all), torch.dot(c_all, c_all), torch.dot(h_all, h_all)]
        self.sums = torch.stack(totals + products)

    def read_sums(self, values: list[float]) -> list[float]:
        """Store this group's products, the first of ``values``; returns the others."""
        count = len(self.sums)
        self.c_dot_h, self.c_squared, self.h_squared = values[:3]
        self.r_dot_h, self.r_squared = values[3:count:2], values[4:count:2]
        return values[count:]

    def subtract(self, rate: float, chosen: Mapping[int, float]) -> None:
        for part, shape, x, c, r in zip(self.group.parts, self.shapes, self.x, self.c, self.r, strict=True):
            remaining = torch.sub(x, c, alpha=rate)
            if r is not None and part.site is not None:
                remaining.sub_(r, alpha=rate * chosen[part.site])
            parameter = part.piece.parameter
            parameter.index_copy_(part.piece.dim, part.indices, remaining.view(shape).to(parameter.dtype))

    def decision(
        self,
        rate: float,
        chosen: Mapping[int, float],
        lowest: Sequence[float],
        highest: Sequence[float],
        alpha: float,
        uniform: float,
        eta: float | None,
    ) -> JointDecision:
        h_norm = self.h_squared**0.5
        layers, costs = {}, 0.0
        named = [part.piece.layer for part in self.group.parts if part.site is not None]
        for layer, site, r_dot_h, r_squared in zip(named, self.sites, self.r_dot_h, self.r_squared, strict=True):
            cosine = _cosine(r_dot_h, r_squared**0.5 * h_norm)
            layers[layer] = LayerChoice(chosen[site], lowest[site], highest[site], r_dot_h, cosine)
            costs += chosen[site] * r_dot_h
        return JointDecision(
            group=self.group.group,
            units=self.group.count,
            forget_rate=rate,
            uniform=uniform,
            alpha=alpha,
            h_squared=self.h_squared,
            c_dot_h=self.c_dot_h,
            cosine=_cosine(self.c_dot_h, self.c_squared**0.5 * h_norm),
            layers=layers,
            descent=descent(rate, self.c_dot_h, costs, self.h_squared, alpha),
            eta=eta,
            allowed=None if eta is None else allowed_descent(self.h_squared, alpha, eta),
        )


def clipped_and_residue(
    x: torch.Tensor, quantizer: Quantizer, step: float, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``c = sgn(x) v(x)`` and ``r = round(c / d) - c / d``, so that ``c + d r`` is the quantized value (eq. G6).

    ``clip`` is one bound for all of ``x``, or one for each element. In the second case ``step`` is d in units of
    ``q_m ** t`` and the residue of each element is multiplied by its ``q_m ** t``: ``c + d r`` is again the quantized
    value with one d for the layer, and eq. G8 holds without a change.
    """
    exponent = None if quantizer.exponent is None else quantizer.exponent.detach()
    c = torch.clamp(x, -clip, clip)
    if exponent is not None:
        c = c.abs().pow(exponent).mul_(c.sign())
    if not quantizer.per_channel:
        position = c / step
        return c, position.round().sub_(position)
    top = clip if exponent is None else clip.pow(exponent)
    position = c / (step * top)
    return c, position.round().sub_(position).mul_(top)


def _bounds(part: Part) -> torch.Tensor:
    """The clipping bound of a part: shape [], or one for each of its elements, flat."""
    assert part.piece.quantizer is not None
    clip = part.piece.quantizer.clip.detach()
    if clip.dim() == 0:
        return clip
    return clip.expand_as(part.piece.parameter).index_select(part.piece.dim, part.indices).flatten()


def _cosine(product: float, norms: float) -> float:
    return product / norms if norms > 0 else 0.0
