"""Scores of units as the options of a method ask for them: criteria over several batches, set against costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator

from compression.errors import CompressionError
from compression.graph.types import Graph
from compression.options import Integer, Options, PositiveNumber, Real
from compression.pruning.saliency import WITHOUT_GRADIENTS, AveragedSaliency, check_criteria
from compression.pruning.unit_cost import unit_costs
from compression.pruning.units import Units
from compression.reading import Text

MOST_BATCHES = 100_000

Criteria = Annotated[
    Mapping[Text, PositiveNumber],
    Field(description="What makes a unit matter: saliency criteria and their weights."),
]
SaliencyBatches = Annotated[
    Integer,
    Field(
        ge=1,
        le=MOST_BATCHES,
        description="Over how many training batches saliency is averaged, where its criteria look at gradients; 1 is "
        "the last one alone.",
    ),
]
Cost = Annotated[
    Literal["none", "macs", "parameters"],
    Field(
        description="What a unit's saliency is set against: the MACs or parameters that are removed with it, or "
        "nothing."
    ),
]
CostPower = Annotated[
    Real,
    Field(
        ge=0,
        le=4,
        description="How strongly: saliency is divided by cost to this power; 0 ignores cost, 1 is saliency per MAC.",
    ),
]


class UnitOptions(Options):
    """What methods that choose units take; the defaults are GETA's."""

    criteria: Criteria = Field(default_factory=lambda: {"taylor_second_order": 1.0})
    saliency_batches: SaliencyBatches = 100
    cost: Cost = "macs"
    cost_power: CostPower = 0.5

    @field_validator("criteria")
    @classmethod
    def _check_criteria(cls, criteria: Mapping[str, float]) -> Mapping[str, float]:
        check_criteria(criteria)
        if not criteria:
            raise CompressionError("criteria must name at least one saliency criterion")
        return criteria


class UnitScores:
    """The scores of all units under :class:`UnitOptions`; the least is the next to be removed."""

    def __init__(self, units: Units, graph: Graph, options: UnitOptions) -> None:
        self.units, self.graph, self.options = units, graph, options
        self.saliency = AveragedSaliency(units, options.criteria)

    @property
    def batches(self) -> int:
        """Over how many batches gradients are to be observed; 0 where no criterion looks at them."""
        return 0 if self.options.criteria.keys() <= WITHOUT_GRADIENTS else self.options.saliency_batches

    def observe(self) -> None:
        """Add the weights and gradients that the parameters hold now."""
        self.saliency.observe()

    def take(self, removed: torch.Tensor) -> torch.Tensor:
        """Saliency [N] of what was observed since the last time, over ``cost ** cost_power`` of the unit's group.

        ``removed``: bool [N], the units that are removed already.
        """
        counts = [0] * len(self.units)
        for unit in torch.nonzero(removed).flatten().tolist():
            counts[self.units.group_of[unit]] += 1
        costs = torch.tensor(unit_costs(self.graph, counts, self.options.cost))
        return self.saliency.take() / costs[self.units.group_of] ** self.options.cost_power

    def state_dict(self) -> dict[str, Any]:
        """What was observed since the last choice."""
        return self.saliency.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.saliency.load_state_dict(state_dict)
