"""What UniQ reads of a budget: its asks, which begin at one bit, and its options."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compression.asks import EqualActivationBits, EqualBits, QuantizerRate
from compression.bounds import FEWEST_BITS
from compression.training.options import ActivationOptions, TrainingOptions, Unsigned

MOST_BITS = 8  # for which least-error steps are known
CHANNEL = "channel"

WEIGHT_BITS = EqualBits(
    field="weight_bits",
    default=4,
    help="the whole bit-width of every layer, 1 to 8",
    lowest=FEWEST_BITS,
    highest=MOST_BITS,
)
ACTIVATION_BITS = EqualActivationBits(
    help="quantize activations too: the bit-width of what flows into every layer, 1 to 8",
    lowest=FEWEST_BITS,
    highest=MOST_BITS,
)
RATE = QuantizerRate()


class UniqOptions(ActivationOptions, TrainingOptions):
    """What UniQ takes beside its bits."""

    weights: Literal["tensor", "channel"] = Field(
        "tensor",
        title="Range and step shared by",
        description="What shares a step: all weights of a layer, or those of one output channel, which costs 4 bytes "
        "for each.",
    )
    start: Literal["normal", "fitted"] = Field(
        "normal",
        title="Steps at the beginning",
        description="Steps at the beginning: those with the least squared error for normally distributed weights and "
        "inputs, as published, or those fitted to the weights and inputs themselves.",
    )
    unsigned: Unsigned = True
