"""What is read of a budget: asks, options, and the stages that a run comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from compression.asks import EqualActivationBits, EqualBits
from compression.bounds import MOST_PERIODS
from compression.errors import CompressionError
from compression.options import Integer, Real
from compression.pruning.unit_options import UnitOptions
from compression.training.options import ActivationOptions, Ranges, Recalibrate, StagedTrainingOptions

WARM_UP, FADING, FINE_TUNING, ROUNDING = "warm-up", "fading", "fine-tuning", "rounding"
WEIGHT_BITS = EqualBits(field="weight_bits", default=8)
ACTIVATION_BITS = EqualActivationBits()


class HessoOptions(UnitOptions, ActivationOptions, StagedTrainingOptions):
    """What HESSO takes beside its sparsity and bits; saliency has the defaults of the other structured methods."""

    warm_up: Real = Field(
        0.05,
        ge=0,
        le=0.9,
        title="Warm-up before channels are chosen",
        description="The share of the run before the first units are chosen.",
    )
    fading: Real = Field(
        0.45,
        ge=0.01,
        le=1,
        title="Share of the run that removes",
        description="The share of the run in which units fade to zero; the remainder trains the others on.",
    )
    periods: Integer = Field(
        6,
        ge=1,
        le=MOST_PERIODS,
        title="Periods of removal",
        description="How many times units are scored anew and chosen; each time they fade over one period.",
    )
    recalibrate: Recalibrate = 100
    ranges: Ranges = "percentile"

    @model_validator(mode="after")
    def _check(self) -> HessoOptions:
        """Refuse stages longer than the run, and what is about training with quantizers.

        Raises:
            CompressionError: naming the options.
        """
        if self.warm_up + self.fading > 1:
            raise CompressionError(f"hesso: warm_up + fading must not exceed 1, but is {self.warm_up + self.fading:g}")
        for name, usual in _WITHOUT_QUANTIZERS.items():
            if (value := getattr(self, name)) != usual:
                raise CompressionError(
                    f"hesso: {name} {value} is for training with quantizers; here weights are rounded after it: leave "
                    f"{name} at {usual}"
                )
        return self


_WITHOUT_QUANTIZERS: dict[str, Any] = {"noise": 1.0, "inherit": 0, "oscillation": "none"}


@dataclass(frozen=True)
class Plan:
    """Stages in steps from 0: warm-up up to ``first``, fading up to ``last``, both not included, then fine-tuning."""

    first: int
    last: int
    total: int

    @classmethod
    def from_shares(cls, total: int, warm_up: float, fading: float) -> Plan:
        """Fading gets at least one step."""
        first = min(round(warm_up * total), total - 1)
        return cls(first, min(max(first + 1, round((warm_up + fading) * total)), total), total)

    def starts(self) -> dict[str, int]:
        """Stage → its first step, for the stages that have any; rounding comes after the last one."""
        spans = {WARM_UP: (0, self.first), FADING: (self.first, self.last), FINE_TUNING: (self.last, self.total)}
        return {name: first for name, (first, last) in spans.items() if last > first} | {ROUNDING: self.total}
