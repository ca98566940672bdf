"""The joint step on the redundant units of all groups: products, gamma and d, subtraction (GETA, section 4.3).

Equation numbers (eq. G…) are those of ``docs/derivations/geta-joint-step.md``; the two rules are in :mod:`.joint`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression.methods.geta.bounds import BitBounds
from compression.methods.geta.joint import (
    JointDecision,
    LayerChoice,
    LayerTerms,
    allowed_descent,
    descent,
    forget_rates,
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


class Redundant:
    """All redundant units of one pruning period, by group, and where each quantized part of them belongs.

    ``group_of`` and ``site_of``: the group and the site of every quantized part, int64, in the order of the parts.
    """

    def __init__(self, groups: Sequence[RedundantSlices], device: torch.device) -> None:
        self.groups = tuple(groups)
        quantized = [
            (at, part.site) for at, group in enumerate(groups) for part in group.parts if part.site is not None
        ]
        self.group_of, self.site_of = (
            torch.tensor([pair[i] for pair in quantized], dtype=torch.int64).to(device) for i in range(2)
        )


def redundant_slices(units: Units, redundant: Sequence[int], bounds: BitBounds) -> Redundant:
    """Return the redundant units (global numbers) as positions in parameters; computed once a period."""
    site_of = {site.quantizer: index for index, site in enumerate(bounds.sites) if site.kind == "weight"}
    groups = []
    for index, local in units.split(redundant).items():
        parts = []
        for piece in units[index].slices:
            site = site_of[piece.quantizer] if isinstance(piece.quantizer, Quantizer) else None
            parts.append(Part(piece, piece.indices(local.to(piece.positions.device)), site))
        groups.append(RedundantSlices(units[index].id, len(local), tuple(parts)))
    return Redundant(groups, bounds.device)


def apply_joint_step(
    redundant: Redundant,
    directions: Mapping[nn.Parameter, torch.Tensor],
    bounds: BitBounds,
    steps: torch.Tensor,
    alpha: float,
    steps_to_shrink: int,
    preferred: torch.Tensor,
    eta: float | None,
    progress: torch.Tensor,
) -> JointStep:
    """Subtract ``gamma (c + d r)`` from the redundant units and set d of their layers (section 4.3, eq. G7 to G11).

    The caller takes the other part of eq. G7, the step along h. Nothing is read from the device.

    Args:
        redundant: the redundant units of this pruning period.
        directions: h of every parameter that has a gradient.
        bounds: the quantizers; their d is written.
        steps: d of every site before this update, to which the residues r belong.
        alpha: learning rate of the weights.
        steps_to_shrink: remaining shrinking steps of the period, this one included.
        preferred: d of every site to take where eq. G8 allows it.
        eta: one of :data:`.joint.FORGETTING`.
        progress: of every site, the share of the reductions of its bit bounds that have happened.
    """
    sites, number = redundant.site_of, steps.unbind()
    # Bounds of d at the present b_u and b_l, which as published are the final ones by now (eq. G3).
    lowest, highest = (bound[sites] for bound in bounds.range(progress))
    # c, r and their products with h (eq. G6): <c,h>, |c|^2 and |h|^2 of each group, <r,h> and |r|^2 of each layer.
    measured = [_Products(group, directions, number) for group in redundant.groups]
    c_dot_h, c_squared, h_squared = torch.stack([each.totals for each in measured]).to(steps.dtype).unbind(1)
    products = [product for each in measured for product in each.products]
    r_dot_h, r_squared = (torch.stack(products) if products else steps.new_zeros(0, 2)).to(steps.dtype).unbind(1)
    # gamma by eq. G9; then d of each layer, and gamma again, by eq. G10 and G11.
    rates = forget_rates(c_dot_h, c_squared.sqrt(), h_squared, alpha, steps_to_shrink, eta)
    terms = LayerTerms(redundant.group_of, r_dot_h, lowest, highest, preferred[sites])
    rates, layer_steps = step_sizes(rates, terms, h_squared, alpha, eta)
    # A layer with units in several groups takes the smallest of their d, which keeps eq. G8 for each of them.
    smallest = torch.full_like(steps, torch.inf).scatter_reduce(0, sites, layer_steps, "amin")
    bounds.write(torch.where(smallest < torch.inf, smallest, bounds.steps()))
    # x <- x - gamma (c + d r) with the new d.
    residue_rates = (rates[redundant.group_of] * smallest[sites]).unbind()
    position = 0
    for each, rate in zip(measured, rates.unbind(), strict=True):
        each.subtract(rate, residue_rates[position : position + len(each.products)])
        position += len(each.products)
    groups = torch.stack([rates, c_dot_h, c_squared, h_squared], 1)
    layers = torch.stack([smallest[sites], lowest, highest, r_dot_h, r_squared], 1)
    return JointStep(redundant, groups, layers, alpha, 1 / steps_to_shrink, eta)


class _Products:
    """The redundant values x of one group, flat, with c and r of eq. G6 and their products with h.

    ``totals``: <c,h>, <c,c>, <h,h>; ``products``: (<r,h>, <r,r>) of each quantized part.
    """

    def __init__(
        self,
        group: RedundantSlices,
        directions: Mapping[nn.Parameter, torch.Tensor],
        steps: Sequence[torch.Tensor],
    ) -> None:
        self.group = group
        selected = [part.piece.parameter.index_select(part.piece.dim, part.indices) for part in group.parts]
        self.shapes = [values.shape for values in selected]
        self.x = [values.flatten().to(working_dtype(values)) for values in selected]
        self.c: list[torch.Tensor] = []
        self.r: list[torch.Tensor | None] = []
        self.products: list[torch.Tensor] = []
        h = []
        for part, x in zip(group.parts, self.x, strict=True):
            whole = directions.get(part.piece.parameter)
            h.append(
                torch.zeros_like(x)
                if whole is None
                else whole.index_select(part.piece.dim, part.indices).flatten().to(x.dtype)
            )
            c, r = x, None
            if isinstance(part.piece.quantizer, Quantizer) and part.site is not None:
                c, r = clipped_and_residue(x, part.piece.quantizer, steps[part.site], _bounds(part))
                self.products.append(torch.stack([torch.dot(r, h[-1]), torch.dot(r, r)]))
            self.c.append(c)
            self.r.append(r)
        c_all, h_all = torch.cat(self.c), torch.cat(h)
        self.totals = torch.stack([torch.dot(c_all, h_all), torch.dot(c_all, c_all), torch.dot(h_all, h_all)])

    def subtract(self, rate: torch.Tensor, residue_rates: Sequence[torch.Tensor]) -> None:
        """``x <- x - gamma c - gamma d r``, with gamma d of each quantized part."""
        remaining_rates = iter(residue_rates)
        for part, shape, x, c, r in zip(self.group.parts, self.shapes, self.x, self.c, self.r, strict=True):
            remaining = x - c * rate
            if r is not None:
                remaining -= r * next(remaining_rates)
            parameter = part.piece.parameter
            parameter.index_copy_(part.piece.dim, part.indices, remaining.view(shape).to(parameter.dtype))


@dataclass(frozen=True, eq=False)
class JointStep:
    """What one joint step decided, still on its device.

    ``groups`` [groups, 4]: gamma, <c,h>, |c|^2, |h|^2; ``layers`` [quantized parts, 5]: d, its bounds, <r,h>, |r|^2.
    """

    redundant: Redundant
    groups: torch.Tensor
    layers: torch.Tensor
    alpha: float
    uniform: float
    eta: float | None

    def decisions(self) -> list[JointDecision]:
        """The decision of each group, in numbers; reads the device once."""
        width = self.groups.shape[1]
        numbers = torch.cat([self.groups.flatten(), self.layers.flatten()]).tolist()
        count = self.groups.numel()
        groups = [numbers[at : at + width] for at in range(0, count, width)]
        width = self.layers.shape[1]
        layers = iter([numbers[at : at + width] for at in range(count, len(numbers), width)])
        return [self._decision(*pair, layers) for pair in zip(self.redundant.groups, groups, strict=True)]

    def _decision(self, group: RedundantSlices, numbers: Sequence[float], rest: Iterator[list[float]]) -> JointDecision:
        """The decision of one group; the numbers of its layers are the next ones of ``rest``."""
        rate, c_dot_h, c_squared, h_squared = numbers
        h_norm = h_squared**0.5
        layers, costs = {}, 0.0
        for part in group.parts:
            if part.site is None:
                continue
            d, lowest, highest, r_dot_h, r_squared = next(rest)
            cosine = _cosine(r_dot_h, r_squared**0.5 * h_norm)
            layers[part.piece.layer] = LayerChoice(d, lowest, highest, r_dot_h, cosine)
            costs += d * r_dot_h
        return JointDecision(
            group=group.group,
            units=group.count,
            forget_rate=rate,
            uniform=self.uniform,
            alpha=self.alpha,
            h_squared=h_squared,
            c_dot_h=c_dot_h,
            cosine=_cosine(c_dot_h, c_squared**0.5 * h_norm),
            layers=layers,
            descent=descent(rate, c_dot_h, costs, h_squared, self.alpha),
            eta=self.eta,
            allowed=None if self.eta is None else allowed_descent(h_squared, self.alpha, self.eta),
        )


def clipped_and_residue(
    x: torch.Tensor, quantizer: Quantizer, step: float | torch.Tensor, clip: torch.Tensor
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
    assert isinstance(part.piece.quantizer, Quantizer)
    clip = part.piece.quantizer.clip.detach()
    if clip.dim() == 0:
        return clip
    return clip.expand_as(part.piece.parameter).index_select(part.piece.dim, part.indices).flatten()


def _cosine(product: float, norms: float) -> float:
    return product / norms if norms > 0 else 0.0
