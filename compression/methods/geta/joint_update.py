"""Applying the joint step to the redundant units of all groups: measure, decide, take away."""

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
    """The redundant positions of one slice; ``site``: which of the bit bounds' quantizers is on it, if any."""

    piece: Slice
    indices: torch.Tensor
    site: int | None


@dataclass(frozen=True, eq=False)
class Leaving:
    """What is to be forgotten of one group during one pruning period: ``count`` units, as parts of parameters."""

    group: str
    count: int
    parts: tuple[Part, ...]


def leaving(units: Units, redundant: Sequence[int], bounds: BitBounds) -> list[Leaving]:
    """The redundant units (global numbers) as positions in parameters, worked out once a period."""
    site_of = {site.quantizer: index for index, site in enumerate(bounds.sites) if site.kind == "weight"}
    found = []
    for index, local in units.split(redundant).items():
        parts = []
        for piece in units[index].slices:
            site = None if piece.quantizer is None else site_of[piece.quantizer]
            parts.append(Part(piece, piece.indices(local.to(piece.positions.device)), site))
        found.append(Leaving(units[index].id, len(local), tuple(parts)))
    return found


def forget(
    groups: Sequence[Leaving],
    directions: Mapping[nn.Parameter, torch.Tensor],
    bounds: BitBounds,
    steps: Sequence[float],
    alpha: float,
    shrinks_left: int,
    preferred: Sequence[float],
) -> list[JointDecision]:
    """Take ``gamma (c + d r)`` away from the redundant units and set d of the layers they belong to.

    ``steps``: d of every site as it was before this update, for which the residues r hold; ``preferred``: the d to take
    where the inequality leaves the choice. The step along h itself,
    which all units take, is the caller's. A layer with units in several groups gets the smallest d that one of them
    asks for (a smaller d keeps the inequality).
    """
    lowest, highest = (bound.tolist() for bound in bounds.range(1.0))
    measured = [_Measured(group, directions, steps) for group in groups]
    flat = torch.cat([each.sums for each in measured]).tolist()
    chosen: dict[int, float] = {}
    rates: list[float] = []
    for each in measured:
        flat = each.take_sums(flat)
        rate = forget_rate(each.c_dot_h, each.c_squared**0.5, each.h_squared, alpha, shrinks_left)
        terms = [
            LayerTerm(r, lowest[s], highest[s], preferred[s]) for s, r in zip(each.sites, each.r_dot_h, strict=True)
        ]
        rate, wanted = step_sizes(rate, terms, each.h_squared, alpha)
        for site, d in zip(each.sites, wanted, strict=True):
            chosen[site] = min(d, chosen.get(site, d))
        rates.append(rate)
    final = bounds.steps()
    for site, d in chosen.items():
        final[site] = d
    bounds.write(final)
    for each, rate in zip(measured, rates, strict=True):
        each.take_away(rate, chosen)
    return [
        each.decision(rate, chosen, lowest, highest, alpha, 1 / shrinks_left)
        for each, rate in zip(measured, rates, strict=True)
    ]


class _Measured:
    """The redundant values of one group, flat, with c and r of :mod:`.joint`, and their products.

    ``sums``: <c,h>, <c,c>, <h,h>, then <r,h> and <r,r> of each quantized slice, in the order of ``sites``.
    """

    def __init__(self, group: Leaving, directions: Mapping[nn.Parameter, torch.Tensor], steps: Sequence[float]) -> None:
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

    def take_sums(self, values: list[float]) -> list[float]:
        """Read this group's products off the front of ``values``; the rest belongs to others."""
        own, rest = values[: len(self.sums)], values[len(self.sums) :]
        self.c_dot_h, self.c_squared, self.h_squared = own[:3]
        self.r_dot_h, self.r_squared = own[3::2], own[4::2]
        return rest

    def take_away(self, rate: float, chosen: Mapping[int, float]) -> None:
        for part, shape, x, c, r in zip(self.group.parts, self.shapes, self.x, self.c, self.r, strict=True):
            left = torch.sub(x, c, alpha=rate)
            if r is not None and part.site is not None:
                left.sub_(r, alpha=rate * chosen[part.site])
            parameter = part.piece.parameter
            parameter.index_copy_(part.piece.dim, part.indices, left.view(shape).to(parameter.dtype))

    def decision(
        self,
        rate: float,
        chosen: Mapping[int, float],
        lowest: Sequence[float],
        highest: Sequence[float],
        alpha: float,
        uniform: float,
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
            allowed=allowed_descent(self.h_squared, alpha),
        )


def clipped_and_residue(
    x: torch.Tensor, quantizer: Quantizer, step: float, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``c = sgn(x) v(x)`` and ``r = round(c / d) - c / d``, so that ``c + d r`` is the quantized value.

    ``clip`` is the bound of all of ``x``, or of each of its elements. In the second case ``step`` is d in units of
    ``q_m ** t``, and the residue of each element is scaled by its own: ``c + d r`` is the quantized value again, with
    one d for the layer, so that the joint step's inequality holds as it stands.
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
    """The clipping bound of a part: shape [], or of each of its elements, flat."""
    assert part.piece.quantizer is not None
    clip = part.piece.quantizer.clip.detach()
    if clip.dim() == 0:
        return clip
    return clip.expand_as(part.piece.parameter).index_select(part.piece.dim, part.indices).flatten()


def _cosine(product: float, norms: float) -> float:
    return product / norms if norms > 0 else 0.0
