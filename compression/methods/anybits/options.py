"""What is read of a budget: the range of bit-widths that one training serves, and options."""

from __future__ import annotations

from pydantic import Field, model_validator

from compression.asks import BitRange, EqualActivationBits
from compression.errors import CompressionError
from compression.options import Integer
from compression.training.options import ActivationOptions, Distill, Ranges, Recalibrate, TrainingOptions, Warmup

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
    ranges: Ranges = "percentile"
    distill: Distill = 0.9
    lr_warmup: Warmup = 0.02
    recalibrate: Recalibrate = 100

    @model_validator(mode="after")
    def _check_oscillation(self) -> AnyBitsOptions:
        """Refuse what is about weights that jump between two values of one grid."""
        if self.oscillation != "none":
            raise CompressionError(
                f"anybits: oscillation {self.oscillation} does not go with weights that have a grid for every bit-width"
            )
        return self
