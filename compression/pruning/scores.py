"""Scores of units as the options of a method ask for them: criteria over several batches, set against costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from compression.graph.types import Graph
from compression.pruning.criteria import SIGNED, WITHOUT_GRADIENTS
from compression.pruning.saliency import AveragedSaliency
from compression.pruning.unit_cost import UnitPrices
from compression.pruning.unit_options import UnitOptions
from compression.pruning.units import Units


class UnitScores:
    """The scores of all units under :class:`UnitOptions`; the least is the next to be removed."""

    def __init__(self, units: Units, graph: Graph, options: UnitOptions, lasting: bool = False) -> None:
        """``lasting``: as in :class:`.AveragedSaliency`, where training goes on between the choices."""
        self.units, self.graph, self.options = units, graph, options
        self.saliency = AveragedSaliency(units, options.criteria, lasting)

    @property
    def batches(self) -> int:
        """Over how many batches gradients are to be observed; 0 where no criterion looks at them."""
        return 0 if self.options.criteria.keys() <= WITHOUT_GRADIENTS else self.options.saliency_batches

    @property
    def watches_all(self) -> bool:
        """Whether every step counts for a sum that lasts from choice to choice."""
        return bool(self.saliency.lasting)

    def observe(self, recent: bool = True) -> None:
        """Add the weights and gradients that the parameters hold now, unless ``recent`` to what lasts only."""
        self.saliency.observe(recent)

    def take(self, removed: torch.Tensor) -> torch.Tensor:
        """Saliency [N] of what was observed since the last time, over ``cost ** cost_power`` of the unit's group.

        ``removed``: bool [N], the units that are removed already. Where a criterion may be below 0, saliency is counted
        from its least value among the other units, so that a high cost lowers every score.
        """
        saliency = self.saliency.take()
        if self.options.criteria.keys() & SIGNED and not bool(removed.all()):
            saliency = saliency - saliency[~removed].min()
        costs = torch.tensor(self.prices(removed).costs.tolist())
        return saliency / costs[self.units.group_of] ** self.options.cost_power

    def prices(self, removed: torch.Tensor) -> UnitPrices:
        """By what :meth:`take` divides, as far as ``removed`` goes."""
        counts = [0] * len(self.units)
        for unit in torch.nonzero(removed).flatten().tolist():
            counts[self.units.group_of[unit]] += 1
        return UnitPrices(self.graph, counts, self.options.cost, self.options.cost_power)

    def state_dict(self) -> dict[str, Any]:
        """What was observed since the last choice."""
        return self.saliency.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.saliency.load_state_dict(state_dict)


class ScoreWindow:
    """Shows scores the gradients of training: those of the last steps before and at each choice of units.

    ``choices`` are the steps at which units are chosen once their gradients are complete, numbered as the steps of
    :meth:`observe` are; the options say of how many steps the average is.
    """

    def __init__(self, scores: UnitScores, choices: Iterable[int]) -> None:
        window = scores.options.saliency_batches
        self._scores = scores
        self.steps = {step for choice in choices for step in range(choice - window + 1, choice + 1)}

    def observe(self, step: int) -> None:
        """The gradients of ``step`` are complete; between two windows they count for sums that last only."""
        if step in self.steps:
            self._scores.observe()
        elif self._scores.watches_all and step < max(self.steps, default=0):
            self._scores.observe(recent=False)
