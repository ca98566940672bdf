"""The options of methods that choose units: what makes one matter, over how many batches, against which costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from compression.errors import CompressionError
from compression.options import Integer, Options, PositiveNumber, Real
from compression.pruning.criteria import check_criteria
from compression.reading import Flag, Text

MOST_BATCHES = 100_000

Criteria = Annotated[
    Mapping[Text, PositiveNumber],
    Field(title="Saliency criteria", description="What makes a unit matter: saliency criteria and their weights."),
]
SaliencyBatches = Annotated[
    Integer,
    Field(
        ge=1,
        le=MOST_BATCHES,
        title="Batches of saliency",
        description="Over how many training batches saliency is averaged, where its criteria look at gradients; 1 is "
        "the last one alone.",
    ),
]
Cost = Annotated[
    Literal["none", "macs", "parameters"],
    Field(
        title="Saliency set against",
        description="What a unit's saliency is set against: the MACs or parameters that are removed with it, or "
        "nothing.",
    ),
]
CostPower = Annotated[
    Real,
    Field(
        ge=0,
        le=4,
        title="Strength of the cost",
        description="How strongly: saliency is divided by cost to this power; 0 ignores cost, 1 is saliency per MAC.",
    ),
]
RenewPrices = Annotated[
    Flag,
    Field(
        title="Renew costs",
        description="Count what a unit costs anew after every unit that is chosen, instead of once for all that are "
        "chosen together.",
    ),
]


class UnitOptions(Options):
    """What methods that choose units take; the defaults are GETA's."""

    criteria: Criteria = Field(default_factory=lambda: {"taylor_second_order": 1.0})
    saliency_batches: SaliencyBatches = 100
    cost: Cost = "macs"
    cost_power: CostPower = 0.5
    renew_prices: RenewPrices = False

    @field_validator("criteria")
    @classmethod
    def _check_criteria(cls, criteria: Mapping[str, float]) -> Mapping[str, float]:
        check_criteria(criteria)
        if not criteria:
            raise CompressionError("criteria must name at least one saliency criterion")
        return criteria
