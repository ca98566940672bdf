"""Which units are removed and which rank every layer gets: one account of error and MACs for both.

A unit's harm is what the layers that read it lose of their outputs; a rank's is what its layer loses. Units go in the
order of harm per MAC, up to a share of the saving; ranks share out the rest by the allocation of
:mod:`compression.quant.spending`. The share that leaves the least error in sum is taken (2105.11228 has the two kinds
of compression units; their common account, by groups and by true MACs, is derived in ``docs/derivations/cc.md``, whose
equations are cited here).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression.asks import MACS
from compression.budget import Budget
from compression.counting.cost import remaining_macs
from compression.errors import CompressionError
from compression.graph import Example, Graph
from compression.graph.cuts import cuts
from compression.methods.cc.curves import WHOLE, LayerMatrix, RankCurve, layer_matrices
from compression.methods.cc.options import SAVED, CcOptions
from compression.methods.cc.reach import refuse_unreachable
from compression.pruning.choose import UnitLimits, unit_bounds
from compression.pruning.target import CostShare
from compression.pruning.unit_cost import UnitPrices
from compression.pruning.units import Units
from compression.quant.spending import Problem, choose

Curves = Mapping[str, RankCurve]
COARSE = (0.0, 0.25, 0.5, 0.75, 1.0)
FINE = 0.125
"""Shares of the saving that units may take: first these, then what lies so far on both sides of the best."""
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Plan:
    """``units``: group id → those removed; ``ranks``: layer → rank, of layers that are factored; ``curves`` of them.

    ``share``: what units save of the whole saving; ``error``: relative output errors (eq. C1), summed over layers.
    """

    units: dict[str, list[int]]
    ranks: dict[str, int]
    curves: Mapping[str, RankCurve]
    share: float
    error: float


class Planner:
    """Plans for one network and budget."""

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        budget: Budget,
        options: CcOptions,
        inputs: Iterable[Example],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Learn from ``inputs`` what flows into the layers of the dense ``model``, which does not change."""
        self.graph, self.budget, self.options = graph, budget, options
        self.layers = layers = layer_matrices(model, graph, inputs, options.harm, budget.seed, check)
        self.saved = SAVED.value(budget.asks)
        self.units = Units(model, graph)
        self.limits = UnitLimits.from_groups(graph.prunable, unit_bounds(budget.groups))
        self.harm, self.unread = unit_harm(graph, layers)
        self._ways = {layer.weight: layers[layer.name] for layer in graph.layers if layer.name in layers}

    def best(self, check: Callable[[], None]) -> tuple[Plan, list[Plan]]:
        """The plan of the least error (eq. C6), and all that were compared.

        Raises:
            CompressionError: the saving cannot be reached.
        """
        refuse_unreachable(self.graph, self.budget, self.options, self.layers)
        plans: dict[float, Plan | None] = {}

        def look(share: float) -> None:
            check()
            if share not in plans and 0 <= share <= 1:
                plans[share] = self.plan(share)

        # 1. Some shares of the saving that units may take; ranks take the rest
        shares = {"joint": COARSE, "none": (0.0,), "all": (1.0,)}[self.options.units]
        for share in shares if self.saved else shares[:1]:  # of no saving all shares are the same
            look(share)
        # 2. Once more beside the best of them
        reached = _in_order(plans)
        if reached and self.options.units == "joint" and self.saved:
            look(reached[0].share - FINE)
            look(reached[0].share + FINE)
        reached = _in_order(plans)
        if not reached:
            raise CompressionError(f"{MACS}: {100 * self.saved:.4g} % cannot be saved within the bounds: choose less")
        return reached[0], sorted(reached, key=lambda plan: plan.share)

    def plan(self, share: float) -> Plan | None:
        """The plan in which units take ``share`` of the saving; ``None`` where that reaches too little, or breaks a
        bound of a layer."""
        chosen = self._chosen(share)
        if chosen is None:
            return None
        units = self.units.named_units(chosen)
        # 1. What remains of every layer, and its table of ranks
        dropped, macs = cuts(self.graph, units), remaining_macs(self.graph, units)
        remaining, curves = self._remaining(dropped), dict[str, RankCurve]()
        for name, places in remaining.items() if self.options.units != "all" else ():
            curve = self.layers[name].curve(*places, self.budget.layers.get(name, {}).get("sparsity"))
            if curve is None:  # units took so much of this layer that no rank saves what its bound says
                return None
            curves[name] = curve
        # 2. MACs that ranks may take: what may remain without the layers that stay as they are
        fixed = sum(count for name, count in macs.items() if name not in curves)
        room = math.floor((1 - self.saved) * self.graph.macs * (1 + _ROUNDING) - fixed)
        if sum(int(curve.costs.min()) for curve in curves.values()) > room:
            return None
        # 3. The ranks of least error within it (eq. C5)
        problem = Problem([curve.costs for curve in curves.values()], [c.errors for c in curves.values()], room)
        choice = choose(problem) if curves else None
        picked = zip(curves.items(), choice.picks if choice else (), strict=True)
        ranks = {name: rank for (name, curve), pick in picked if (rank := curve.ranks[pick]) != WHOLE}
        # 4. What units and ranks come to together, and the units that none of these layers reads
        error = self._error(remaining, ranks, curves) + float(self.harm[chosen & self.unread].sum())
        return Plan(units, ranks, {name: curves[name] for name in ranks}, share, error)

    def restored(self, units: Mapping[str, list[int]], ranks: Mapping[str, int]) -> Plan:
        """The plan of an interrupted run: its units and ranks, with the curves that give the factors again."""
        remaining = self._remaining(cuts(self.graph, units))
        curves = {name: self.layers[name].curve(*remaining[name], None) for name in ranks}
        known = {name: curve for name, curve in curves.items() if curve is not None}
        return Plan(dict(units), dict(ranks), known, math.nan, math.nan)

    def _chosen(self, share: float) -> torch.Tensor | None:
        """The units of least harm per MAC that save this share of the saving, bool [N]; ``None``: they cannot."""
        removed = torch.zeros(self.units.total, dtype=torch.bool)
        target = CostShare(self.graph, MACS, share * self.saved)
        if not self.units.total or not target.removes(self.limits):
            return removed if target.reached([0] * len(self.limits.lowest)) else None
        if not target.reached(self.limits.highest):
            return None
        prices = UnitPrices(self.graph, [0] * len(self.limits.lowest), "macs")
        scores = self.harm / torch.from_numpy(prices.values)[self.units.group_of]
        removed[target.choose(scores, self.units.group_of, removed, self.limits, 1.0, prices)] = True
        return removed

    def _remaining(self, dropped: Mapping[str, Any]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Layer → the rows and columns of its matrix that remain."""
        result = {}
        for weight, layer in self._ways.items():
            n, d = layer.weight.shape
            alive = {0: torch.ones(n, dtype=torch.bool), 1: torch.ones(d // layer.kernel, dtype=torch.bool)}
            for dim, positions in dropped.get(weight, ()):
                alive[dim][positions] = False
            columns = alive[1].repeat_interleave(layer.kernel)
            result[layer.name] = (alive[0].nonzero()[:, 0], columns.nonzero()[:, 0])
        return result

    def _error(
        self, remaining: Mapping[str, tuple[torch.Tensor, torch.Tensor]], ranks: Mapping[str, int], curves: Curves
    ) -> float:
        """What all layers lose of their outputs, units and rank of each together."""
        return sum(
            layer.error(*remaining[name], curves[name].approximation(ranks[name]) if name in ranks else None)
            for name, layer in self.layers.items()
        )


def _in_order(plans: Mapping[float, Plan | None]) -> list[Plan]:
    """Those that reach the saving, least error first; among equal ones the fewest units."""
    return sorted((plan for plan in plans.values() if plan is not None), key=lambda plan: (plan.error, plan.share))


def unit_harm(graph: Graph, layers: Mapping[str, LayerMatrix]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the layers that read each prunable unit lose of their outputs without it, in sum (eq. C3): fp64 [N].

    Where none of these layers reads a unit, what those lose that make it; the second tensor marks these, bool [N].
    """
    by_weight = {layer.weight: layers[layer.name] for layer in graph.layers if layer.name in layers}
    read = {weight: layer.channel_errors() for weight, layer in by_weight.items()}
    parts, unread = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.bool)]
    for group in graph.prunable:
        harm = torch.zeros(group.units, dtype=torch.float64)
        for member in group.members:
            if member.role == "consumer" and member.dim == 1 and member.name in read:
                harm += read[member.name][member.positions].sum(1)
        readers = any(member.role == "consumer" and member.dim == 1 and member.name in read for member in group.members)
        unread.append(torch.full((group.units,), not readers))
        if not readers:
            for member in group.members:
                if member.role == "producer" and member.dim == 0 and member.name in by_weight:
                    harm += by_weight[member.name].row_errors()[member.positions].sum(1)
        parts.append(harm)
    return torch.cat(parts), torch.cat(unread)
