"""How much each unit matters: sums over its slices, and the weighted criteria on them (GETA, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from compression import devices
from compression.pruning.criteria import CRITERIA, DEFAULT_WEIGHTS, MOVEMENT, UnitSums
from compression.pruning.units import Units

_EPSILON = 1e-8


def unit_sums(units: Units, directions: Mapping[nn.Parameter, torch.Tensor]) -> UnitSums:
    """Sum squares and products of every unit's slices: one reduction a parameter, then one gather.

    ``directions`` maps a parameter to its h, of the same shape; a parameter without one counts as h = 0.
    """
    parts: list[torch.Tensor] = []
    for group in units:
        total: torch.Tensor | None = None
        for piece in group.slices:
            x = piece.parameter.detach().float()
            h = directions[piece.parameter].float() if piece.parameter in directions else torch.zeros_like(x)
            others = [dim for dim in range(x.dim()) if dim != piece.dim]
            products = torch.stack([_sum(x * x, others), _sum(x * h, others), _sum(h * h, others)])
            per_unit = products[:, piece.positions].sum(-1)
            total = per_unit if total is None else total + per_unit
        assert total is not None, f"group {group.id} has no variables"
        parts.append(torch.cat([total, torch.full_like(total[:1], float(group.variables))]))
    xx, xh, hh, variables = torch.cat(parts, dim=1)
    return UnitSums(xx, xh, hh, variables)


def scores(sums: UnitSums, weights: Mapping[str, float] | None = None) -> torch.Tensor:
    """The weighted sum [N] of the criteria, each divided by its l2 norm over all units; least = redundant."""
    weights = weights or DEFAULT_WEIGHTS
    return _weighted({name: CRITERIA[name](sums) for name in weights}, weights)


def _weighted(values: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    total = torch.zeros_like(next(iter(values.values())))
    for name, weight in weights.items():
        total += weight * values[name] / (values[name].norm() + _EPSILON)
    return total


class AveragedSaliency:
    """The criteria averaged over the gradients of several batches, where one batch alone would be a lottery.

    Averaged ``taylor_second_order`` is half the empirical Fisher information of scaling the unit by a factor:
    ``E <x, g>² / 2`` (Molchanov et al., arXiv 1906.10771, eq. 8), which one batch estimates with a relative error
    above 1.

    ``movement`` is the sum of ``-<x, g>`` with its sign (Sanh, Wolf, Rush, arXiv 2005.07683, section 4, for units
    instead of weights): a unit whose weights training moves away from zero gains importance, one that it moves towards
    zero loses it. ``lasting``: this sum runs on from choice to choice, and over steps that other criteria leave out.
    """

    def __init__(self, units: Units, weights: Mapping[str, float], lasting: bool = False) -> None:
        self.units, self.weights = units, dict(weights)
        self.lasting = {MOVEMENT} & weights.keys() if lasting else set()
        device = next((piece.parameter.device for group in units for piece in group.slices), torch.device(devices.CPU))
        self._totals = {name: torch.zeros(units.total, device=device) for name in weights}

    def observe(self, recent: bool = True) -> None:
        """Add the gradients that the parameters hold now, unless ``recent`` to the sums that last only."""
        gradients = {
            piece.parameter: piece.parameter.grad
            for group in self.units
            for piece in group.slices
            if piece.parameter.grad is not None
        }
        sums = unit_sums(self.units, gradients)
        for name, total in self._totals.items():
            if not recent and name not in self.lasting:
                continue
            total += CRITERIA[name](sums)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What was observed since the last choice."""
        return dict(self._totals)

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._totals = {name: state_dict[name].to(total, copy=True) for name, total in self._totals.items()}

    def take(self) -> torch.Tensor:
        """The weighted scores of what was observed since the last time, each criterion divided by its l2 norm.

        Shape [N], on the CPU.
        """
        scores = _weighted(self._totals, self.weights).cpu()
        for name, total in self._totals.items():
            if name not in self.lasting:
                total.zero_()
        return scores


def _sum(values: torch.Tensor, dims: list[int]) -> torch.Tensor:
    return values.sum(dims) if dims else values
