"""What product quantization reads of a budget: its ask and its options."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from compression.asks import CodedBits
from compression.options import Integer
from compression.reading import Flag
from compression.training.options import TrainingOptions, refuse_options

BITS = CodedBits(default=2.0, help="average bits of a weight as it is stored, codebooks and steps counted")


class PqOptions(TrainingOptions):
    """What product quantization takes beside its average bits."""

    block: Literal["auto", "kernel", 1, 2, 4, 8, 16] = Field(
        "auto",
        title="Weights in a block",
        description="Weights of a block: whichever of 1, 2, 4, 8 and a whole kernel errs least in each layer (auto), "
        "the kernels of convolutions (kernel, as in Kernel Quantization) with auto for other layers, or a number, "
        "where the rows of a layer are whole blocks of it.",
    )
    tuning: Literal["centroids", "none"] = Field(
        "centroids",
        title="Training afterwards",
        description="Train the blocks of the books, with indices fixed, for the budget's epochs, or train nothing: the "
        "result is then there after a minute, without a label.",
    )
    embeddings: Flag = Field(
        True,
        title="Compress embeddings",
        description="Compress tables of embeddings too; they count in the average bits, and bounds of single layers "
        "may name them.",
    )
    omega: Literal["equal", "energy"] = Field(
        "equal",
        title="What a layer's error counts",
        description="What a layer's squared error counts when bits are shared out: the same everywhere, or relative to "
        "its energy (1/Σw²).",
    )
    weighting: Literal["none", "inputs"] = Field(
        "none",
        title="Errors weighted by",
        description="What an error within a block counts: the same everywhere (none), or as the inputs that it meets "
        "are large and alike, from up to eight batches of training inputs without labels (inputs, as in the paper): "
        "clusters and shares of the bits are then by estimated errors of outputs. Embeddings count everywhere alike. "
        "All blocks of a layer share one weighting; with ResNet-20 it does not help (84.2 % instead of 84.7 % at 2 "
        "bits, 71.6 % instead of 73.8 % at 1, books untrained).",
    )
    iterations: Integer = Field(20, ge=1, le=200, title="Iterations", description="Rounds of clustering for each book.")

    @model_validator(mode="after")
    def _check(self) -> PqOptions:
        """Refuse what is about weights with a grid of their own."""
        refuse_options(self, "pq", _CANNOT)
        return self


_CANNOT = {
    "oscillation": "books: their blocks are means of many weights",
    "inherit": "books: a smaller book is no part of a larger one",
}
