"""What is read of a budget: asks, options, and the stages that a run comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from compression.asks import EqualActivationBits, EqualBits, QuantizerRate
from compression.options import Real
from compression.pruning.criteria import RMS
from compression.pruning.unit_options import Cost, Criteria, UnitOptions
from compression.training.options import LearnedRangeOptions, Ranges

PRUNING, FINE_TUNING, QUANTIZATION = "pruning", "fine-tuning", "quantization"
RATE = QuantizerRate()
WEIGHT_BITS = EqualBits(field="weight_bits", default=8)
ACTIVATION_BITS = EqualActivationBits()


class SequentialOptions(UnitOptions, LearnedRangeOptions):
    """What prune, then quantize, takes beside its sparsity and bits."""

    rounds: Literal[4, 1, 2, 8] = Field(
        4,
        title="Rounds of removal",
        description="In how many equal rounds the units are removed, with training in between.",
    )
    norm: Literal["none", "group"] = Field(
        "none",
        title="Units compared with",
        description="Compare all units of the network directly, or each with the mean of its group.",
    )
    quantization: Real = Field(
        0.5,
        ge=0.05,
        le=0.95,
        title="Share of the run at few bits",
        description="The share of the run that trains with quantized weights.",
    )
    ranges: Ranges = "percentile"
    criteria: Criteria = Field(default_factory=lambda: {RMS: 1.0})
    cost: Cost = "none"


@dataclass(frozen=True)
class Plan:
    """Stages in steps from 0: pruning up to ``pruned``, fine-tuning up to ``tuned``, both not included."""

    pruned: int
    tuned: int
    total: int
    rounds: int

    @classmethod
    def from_shares(cls, total: int, quantization: float, rounds: int) -> Plan:
        """The last share goes to quantization (at least one step), half of what is before it to pruning."""
        tuned = total - max(1, round(quantization * total))
        pruned = (tuned + 1) // 2
        return cls(pruned, tuned, total, max(1, min(rounds, pruned)))

    def starts(self) -> dict[str, int]:
        """Stage → its first step, for the stages that have any."""
        spans = {
            PRUNING: (0, self.pruned),
            FINE_TUNING: (self.pruned, self.tuned),
            QUANTIZATION: (self.tuned, self.total),
        }
        return {name: first for name, (first, last) in spans.items() if last > first}

    def round_at(self, step: int) -> int:
        """How many rounds have been carried out when ``step`` is taken; they come evenly, the first before step 0."""
        if step >= self.pruned:
            return self.rounds
        return 1 + step * self.rounds // self.pruned
