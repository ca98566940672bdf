"""What CoDeQ reads of a budget: its asks, its options and the stages that a run comes to."""

from __future__ import annotations

from pydantic import Field, model_validator

from compression.asks import WEIGHTS, EqualBits, QuantizerRate, Sparsity
from compression.options import Real
from compression.training.options import TrainingOptions, refuse_options

LEARNING, FINE_TUNING = "learning", "fine-tuning"
SPARSITY, WEIGHT_BITS, RATE = Sparsity(target=WEIGHTS), EqualBits(), QuantizerRate()


class CodeqOptions(TrainingOptions):
    """What CoDeQ takes beside its sparsity and bits."""

    learning: Real = Field(
        0.7,
        ge=0.1,
        le=0.95,
        title="Share of the run that learns thresholds",
        description="The share of the run in which thresholds are learned and zeros may come back; in the rest the "
        "zeros are fixed.",
    )

    @model_validator(mode="after")
    def _check(self) -> CodeqOptions:
        """Refuse what is about weights that are multiples of a step."""
        refuse_options(self, "codeq", _CANNOT)
        return self


_CANNOT = {
    "oscillation": "levels that begin at a threshold and are no multiples of the step",
    "inherit": "levels that begin at a threshold: the step follows from it and from the largest weight",
}
