"""What is read of a budget: the range of bit-widths that one training serves, and options."""

from __future__ import annotations

from pydantic import Field, model_validator

from compression.asks import BitRange, EqualActivationBits
from compression.options import Integer
from compression.reading import Flag
from compression.training.options import (
    ActivationOptions,
    Distill,
    Ranges,
    Recalibrate,
    TrainingOptions,
    Warmup,
    refuse_options,
)

TRAINING, SEARCH = "training", "search"
WEIGHT_BITS = BitRange(
    default=(2, 8), help="the fewest and the most bits of a weight that the model is to have after the run, LO:HI"
)
ACTIVATION_BITS = EqualActivationBits()


class AnyBitsOptions(ActivationOptions, TrainingOptions):
    """What one training for every bit-width takes beside its range of bits."""

    search_examples: Integer = Field(
        1000,
        ge=1,
        le=100_000,
        title="Examples of the search",
        description="Validation examples on which it is measured, with forward passes only, what fewer bits in each "
        "layer cost, and which mixture of bit-widths is best; fewer where one takes much arithmetic.",
    )
    freeze: Flag = Field(
        False,
        description="Layers whose weights lie most often near the edge between two levels train without their fewest "
        "bits for a while: half of the layers at first, a fifth in the end. All bit-widths are searched as ever. With "
        "ResNet-8 on digits (2 to 8 bits, 4 epochs, two seeds) it helps from 2.5 bits on (97.4 % instead of 96.8 % at "
        "3) and costs at the fewest (95.5 % instead of 96.1 % at 2).",
    )
    ranges: Ranges = "percentile"
    distill: Distill = 0.9
    lr_warmup: Warmup = 0.02
    recalibrate: Recalibrate = 100

    @model_validator(mode="after")
    def _check(self) -> AnyBitsOptions:
        """Refuse what is about weights that have one grid at a time."""
        refuse_options(self, "anybits", _CANNOT)
        return self


_CANNOT = {
    "oscillation": "weights that have a grid for every bit-width",
    "inherit": "weights that train at all bit-widths together",
}
