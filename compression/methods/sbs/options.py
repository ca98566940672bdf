"""What SBS reads of a budget: asks, options, the stages of a run, and what its bit operations are to be."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator

from compression.asks import QuantizerRate
from compression.methods.sbs.asks import WIDTHS
from compression.options import Real
from compression.training.options import (
    ActivationOptions,
    Distill,
    Ranges,
    Recalibrate,
    StagedTrainingOptions,
    Unsigned,
    Warmup,
    refuse_options,
)

SEARCH, FINE_TUNING = "search", "fine-tuning"
RATE = QuantizerRate()


class SbsOptions(ActivationOptions, StagedTrainingOptions):
    """What SBS takes beside what is removed and its bits."""

    search: Real = Field(
        0.5,
        ge=0.05,
        le=0.95,
        title="Share of the run that searches",
        description="The share of the run in which gates are trained together with the weights; the rest trains the "
        "chosen network.",
    )
    mean_bits: Real = Field(
        0.0,
        ge=0,
        le=WIDTHS[-1],
        title="Bits whose operations are the limit",
        description="Where units or MACs are asked for and not BOPs: the bit-width whose bit operations the run ends "
        "at or below, were it every layer's inside its range; 0 takes the middle of each range.",
    )
    strength: Real = Field(
        0.0,
        ge=0,
        le=1000,
        title="Weight of bit operations in the loss",
        description="The weight λ of the logarithm of the bit operations in the loss, as published: gates then close "
        "by their thresholds alone until the search ends. 0 leaves it out: bit operations fall evenly to those "
        "asked for, and those gates are open that are worth most within them. They are met in both cases.",
    )
    ranges: Ranges = "percentile"
    unsigned: Unsigned = True
    distill: Distill = 0.9
    lr_warmup: Warmup = 0.02
    recalibrate: Recalibrate = 100

    @model_validator(mode="after")
    def _check(self) -> SbsOptions:
        """Refuse what sets bit-widths from outside."""
        refuse_options(self, "sbs", {"inherit": "bits that are learned: its gates choose them"})
        return self


@dataclass(frozen=True)
class Plan:
    """Steps from 0: the search up to ``last`` (not included), training of the chosen network up to ``total``.

    ``every``: steps between two decisions of the gates, and how long those of weights or of activations are trained
    before it is the turn of the others.
    """

    last: int
    total: int
    every: int

    @classmethod
    def from_shares(cls, total: int, search: float) -> Plan:
        """The fine-tuning gets at least one step; ten decisions or more, at most 10 steps apart."""
        last = min(round(search * total), total - 1)
        return cls(last, total, max(1, min(10, last // 10)))

    def starts(self) -> dict[str, int]:
        """Stage → its first step, for the stages that have any."""
        return {SEARCH: 0, FINE_TUNING: self.last} if self.last else {FINE_TUNING: 0}

    def due(self, done: int) -> bool:
        """Whether the gates decide once ``done`` steps of the search have been taken."""
        return done % self.every == 0 or done == self.last

    def turn(self, step: int) -> int:
        """How many turns of training are over when ``step`` is taken."""
        return step // self.every

    def progress(self, done: int) -> float:
        """The share of removal and narrowing that is due: all of it after four fifths of the search."""
        return min(1.0, done / (0.8 * self.last)) if self.last else 1.0
