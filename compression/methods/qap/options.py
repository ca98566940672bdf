"""What is read of a budget: asks, options, and the rounds that a run comes to."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from compression.asks import WEIGHTS, EqualActivationBits, EqualBits, QuantizerRate, Sparsity
from compression.options import Integer, Real
from compression.pruning.weight_options import Scope
from compression.reading import Flag
from compression.training.options import LearnedRangeOptions, Ranges, Recalibrate

PRUNING, FINE_TUNING = "pruning", "fine-tuning"
SPARSITY, WEIGHT_BITS = Sparsity(target=WEIGHTS), EqualBits()
ACTIVATION_BITS, RATE = EqualActivationBits(), QuantizerRate()


class QapOptions(LearnedRangeOptions):
    """What quantization-aware pruning takes beside its sparsity and bits."""

    rounds: Integer = Field(
        9,
        ge=1,
        le=100,
        title="Rounds of removal",
        description="In how many equal rounds weights are set to zero, with training in between.",
    )
    pruning: Real = Field(
        0.4,
        ge=0,
        le=0.95,
        title="Share of the run that prunes",
        description="The share of the run up to the last round; the remainder trains the weights that survive.",
    )
    scope: Scope = "network"
    rewind: Flag = Field(
        False,
        title="Rewind to the first values",
        description="After every round, bring all that survives back to the values it had when the run began (lottery "
        "ticket), instead of training it on.",
    )
    l1: Real = Field(
        0.0,
        ge=0,
        le=1,
        title="L1 penalty",
        description="Weight of the sum of all magnitudes of weights in the loss; 0 leaves it out.",
    )
    recalibrate: Recalibrate = 100
    ranges: Ranges = "percentile"


@dataclass(frozen=True)
class Plan:
    """Steps from 0: round r of ``rounds`` comes before step r·``pruned`` // ``rounds``, the last before ``pruned``."""

    pruned: int
    total: int
    rounds: int

    @classmethod
    def from_share(cls, total: int, pruning: float, rounds: int) -> Plan:
        """At least one step follows the last round; no more rounds than steps before it, but one."""
        pruned = min(round(pruning * total), total - 1)
        return cls(pruned, total, max(1, min(rounds, pruned)))

    def starts(self) -> dict[str, int]:
        """Stage → its first step, for the stages that have any."""
        return ({PRUNING: 0} if self.pruned else {}) | {FINE_TUNING: self.pruned}

    def round_at(self, step: int) -> int:
        """The number of the round that comes right before ``step``, from 1; 0: none does."""
        steps = [number * self.pruned // self.rounds for number in range(1, self.rounds + 1)]
        return steps.index(step) + 1 if step in steps else 0
