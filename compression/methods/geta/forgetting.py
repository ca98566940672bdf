"""Applying the joint step to the redundant units of all groups: measure, decide, take away."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression.methods.geta.bounds import BitBounds
from compression.methods.geta.joint import ETA
from compression.methods.geta.joint import ZETA
from compression.methods.geta.joint import JointDecision
from compression.methods.geta.joint import LayerTerm
from compression.methods.geta.joint import forget_rate
from compression.methods.geta.joint import step_sizes
from compression.methods.geta.units import Slice
from compression.methods.geta.units import Units
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
) -> list[JointDecision]:
    """Take ``gamma (c + d r)`` away from the redundant units and set d of the layers they belong to.

    ``steps``: d of every site as it was before this update, for which the residues r hold. The step along h itself,
    which all units take, is the caller's. A layer with units in several groups gets the smallest d that one of them
    asks for (a smaller d keeps the inequality).
    """
    lowest, highest = (bound.tolist() for bound in bounds.range(1.0))
    measured = [_Measured(group, directions, steps) for group in groups]
    flat = torch.cat([each.sums for each in measured]).tolist()
    chosen: dict[int, float] = {}
    rates: list[float] = []
    sums: list[list[float]] = []
    for each in measured:
        own, flat = flat[: len(each.sums)], flat[len(each.sums) :]
        c_dot_h, c_squared, h_squared = own[:3]
        rate = forget_rate(c_dot_h, c_squared**0.5, h_squared, alpha, shrinks_left)
        terms = [LayerTerm(r, lowest[s], highest[s]) for s, r in zip(each.sites, own[3:], strict=True)]
        rate, wanted = step_sizes(rate, terms, h_squared, alpha)
        for site, d in zip(each.sites, wanted, strict=True):
            chosen[site] = min(d, chosen.get(site, d))
        rates.append(rate)
        sums.append(own)
    final = bounds.steps()
    for site, d in chosen.items():
        final[site] = d
    bounds.write(final)
    for each, rate in zip(measured, rates, strict=True):
        each.take_away(rate, chosen)
    return [_decision(*told, chosen, alpha) for told in zip(measured, rates, sums, strict=True)]


class _Measured:
    """The redundant values of one group, flat, with c and r of :mod:`.joint`; ``sums`` = <c,h>, <c,c>, <h,h>, <r,h> …

    ``sites`` are the quantizers in the order of the last entries of ``sums``.
    """

    def __init__(self, group: Leaving, directions: Mapping[nn.Parameter, torch.Tensor], steps: Sequence[float]) -> None:
        self.group = group
        self.sites = [part.site for part in group.parts if part.site is not None]
        selected = [part.piece.parameter.index_select(part.piece.dim, part.indices) for part in group.parts]
        self.shapes = [values.shape for values in selected]
        self.x = [values.flatten() for values in selected]
        self.c, self.r, h, products = [], [], [], []
        for part, x in zip(group.parts, self.x, strict=True):
            whole = directions.get(part.piece.parameter)
            h.append(
                torch.zeros_like(x) if whole is None else whole.index_select(part.piece.dim, part.indices).flatten()
            )
            c, r = x, None
            if part.piece.quantizer is not None and part.site is not None:
                c, r = clipped_and_residue(x, part.piece.quantizer, steps[part.site])
                products.append(torch.dot(r, h[-1]))
            self.c.append(c)
            self.r.append(r)
        c_all, h_all = torch.cat(self.c), torch.cat(h)
        totals = [torch.dot(c_all, h_all), torch.dot(c_all, c_all), torch.dot(h_all, h_all)]
        self.sums = torch.stack(totals + products)

    def take_away(self, rate: float, chosen: Mapping[int, float]) -> None:
        for part, shape, x, c, r in zip(self.group.parts, self.shapes, self.x, self.c, self.r, strict=True):
            left = torch.sub(x, c, alpha=rate)
            if r is not None and part.site is not None:
                left.sub_(r, alpha=rate * chosen[part.site])
            part.piece.parameter.index_copy_(part.piece.dim, part.indices, left.view(shape))


def clipped_and_residue(x: torch.Tensor, quantizer: Quantizer, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``c = sgn(x) v(x)`` and ``r = round(c / d) - c / d``, so that ``c + d r`` is the quantized value."""
    clip = quantizer.clip.detach()
    c = torch.clamp(x, -clip, clip)
    if quantizer.exponent is not None:
        c = c.abs().pow(quantizer.exponent.detach()).mul_(c.sign())
    position = c / step
    return c, position.round().sub_(position)


def _decision(
    measured: _Measured, rate: float, sums: Sequence[float], chosen: Mapping[int, float], alpha: float
) -> JointDecision:
    c_dot_h, c_squared, h_squared, *residues = sums
    norms = (c_squared * h_squared) ** 0.5
    costs = sum(chosen[site] * r_dot_h for site, r_dot_h in zip(measured.sites, residues, strict=True))
    layers = [part.piece.layer for part in measured.group.parts if part.site is not None]
    return JointDecision(
        group=measured.group.group,
        units=measured.group.count,
        forget_rate=rate,
        steps={layer: chosen[site] for layer, site in zip(layers, measured.sites, strict=True)},
        cosine=c_dot_h / norms if norms > 0 else 0.0,
        descent=-alpha * h_squared - rate * (c_dot_h + costs),
        allowed=-ETA * (1 - ZETA) * alpha * h_squared,
    )
