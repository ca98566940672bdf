"""What BSQ reads of a budget: asks, options, the stages of a run, and how many planes each layer may have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import Field, model_validator

from compression.asks import (
    WEIGHT_BITS,
    AverageBits,
    Bounds,
    Control,
    EqualActivationBits,
    QuantizerRate,
    check_taking_part,
)
from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.errors import CompressionError
from compression.options import Integer, Real
from compression.training.options import ActivationOptions, Ranges, StagedTrainingOptions, refuse_options

SPARSIFICATION, FINE_TUNING = "sparsification", "fine-tuning"
MOST_PLANES = 8
"""Planes that a layer starts with, where its bounds let it: 8 bits without a sign."""


@dataclass(frozen=True)
class SignedBits(AverageBits):
    """The average bit-width of a weight, its sign and its zeros counted: a layer of n planes has n + 1 bits."""

    help: str = "average bits of a weight, the sign counted: a layer of n bit planes has n + 1 bits"

    def control(self) -> Control:
        return replace(super().control(), label="Average bits per weight")


BITS, ACTIVATION_BITS, RATE = SignedBits(), EqualActivationBits(), QuantizerRate()


class BsqOptions(ActivationOptions, StagedTrainingOptions):
    """What BSQ takes beside its average bits."""

    strength: Real = Field(
        0.0,
        ge=0,
        le=1,
        title="Strength of the penalty",
        description="The weight α of the penalty on bit planes, in the paper's unit, scaled to the length of the run. "
        "It pulls all the time, also below the bits asked for: 0.005, of the best-known result in 350 epochs, destroys "
        "a small network in two epochs, 0.001 does not. 0 chooses it anew after each re-quantization, such that the "
        "average falls evenly to the bits asked for and no further.",
    )
    requantizations: Integer = Field(
        8,
        ge=1,
        le=100,
        title="Number of requantizations",
        description="How often, evenly spread, the bit planes become whole numbers again and those that died are "
        "dropped. With the last time their training ends.",
    )
    share: Real = Field(
        0.6,
        ge=0.05,
        le=0.95,
        title="Share of the run that trains bit planes",
        description="The share of the run that trains bit planes; the rest trains at fixed bits.",
    )
    ranges: Ranges = "percentile"

    @model_validator(mode="after")
    def _check(self) -> BsqOptions:
        """Refuse what sets bit-widths from outside."""
        refuse_options(self, "bsq", {"inherit": "bits that are learned: planes are dropped as they die"})
        return self


@dataclass(frozen=True)
class Plan:
    """Steps from 0: bit planes are trained up to ``last`` (not included), whole weights from there to ``total``.

    ``due``: after how many steps of the run the planes are re-quantized; the last is ``last``.
    """

    last: int
    total: int
    due: tuple[int, ...]

    @classmethod
    def from_shares(cls, total: int, share: float, requantizations: int) -> Plan:
        """The last share, at least one step, trains at fixed bits."""
        last = total - max(1, round((1 - share) * total))
        times = [round((i + 1) * last / requantizations) for i in range(requantizations)]
        return cls(last, total, tuple(sorted({time for time in times if time > 0})))

    def coming(self, done: int) -> tuple[int, ...]:
        """The re-quantizations that come when ``done`` steps have been taken."""
        return tuple(time for time in self.due if time > done)

    def share_after(self, done: int) -> float:
        """What share of the stage there is from ``done`` steps to the next re-quantization."""
        return (self.coming(done)[0] - done) / self.last if self.coming(done) else 0.0

    def starts(self) -> dict[str, int]:
        """Stage → its first step, for the stages that have any."""
        return {SPARSIFICATION: 0, FINE_TUNING: self.last} if self.last else {FINE_TUNING: 0}


@dataclass(frozen=True)
class Limits:
    """How many planes a layer has at least and at most; bit-widths are one more."""

    lowest: int
    highest: int

    @classmethod
    def from_bounds(cls, low: float, high: float) -> Limits:
        """Those of a layer's bounds of bit-widths; above :data:`MOST_PLANES` only where the lower bound asks."""
        lowest = max(LOWEST_BITS, math.ceil(low)) - 1
        return cls(lowest, max(lowest, min(math.floor(high) - 1, MOST_PLANES)))


def planes_by_layer(layers: Bounds, sizes: Mapping[str, int], average: float) -> dict[str, Limits]:
    """Layer → its :class:`Limits`; ``sizes``: layer → number of weights.

    Raises:
        CompressionError: bounds of a layer that is not there, or that need more than ``average`` bits a weight.
    """
    check_taking_part(layers, sizes)
    bounds = {name: layers.get(name, {}).get(WEIGHT_BITS) or (LOWEST_BITS, HIGHEST_BITS) for name in sizes}
    limits = {name: Limits.from_bounds(*pair) for name, pair in bounds.items()}
    least = sum(sizes[name] * (limit.lowest + 1) for name, limit in limits.items())
    if least > available_bits(sizes, average):
        raise CompressionError(
            f"the layers' lowest bit-widths already need {least / sum(sizes.values()):.4g} bits a weight on average, "
            f"above the {average:g} asked for; raise the average bits or lower the layers' bounds"
        )
    return limits


def widest(limits: Mapping[str, Limits], sizes: Mapping[str, int], average: float) -> dict[str, int]:
    """Layer → the bits that it has at most in the end, as the others have at least their lowest."""
    least = sum(sizes[name] * (limit.lowest + 1) for name, limit in limits.items())
    spare = available_bits(sizes, average) - least
    return {name: min(limit.highest, limit.lowest + spare // sizes[name]) + 1 for name, limit in limits.items()}


def available_bits(sizes: Mapping[str, int], average: float) -> int:
    """How many bits all weights may have together."""
    return math.floor(average * sum(sizes.values()) * (1 + 1e-12))
