"""The options of methods that go through a network layer by layer with a few inputs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compression.options import Integer
from compression.reading import Flag
from compression.training.options import ActivationOptions, Ranges

MOST_SAMPLES = 1_000_000


class LayerwiseOptions(ActivationOptions):
    """What they share; ``Config`` of such a method extends it and may have other defaults."""

    samples: Integer = Field(
        512,
        ge=1,
        le=MOST_SAMPLES,
        description="Training inputs, without labels, that show what flows into a layer; all, where there are fewer.",
    )
    inputs: Literal["compressed", "dense", "aligned"] = Field(
        "compressed",
        description="What flows into a layer: what the layers before it give once they are compressed (compressed), "
        "what they give in the dense network, in one pass for all layers (dense), or the former with weights that "
        "first make good for what it differs from the latter (aligned).",
    )
    codebook: Literal["channel", "layer"] = Field(
        "channel",
        description="What shares a step: the weights of one output channel, whose scale costs 4 bytes (channel), or "
        "all weights of a layer (layer).",
    )
    clip: Literal["max", "mse"] = Field(
        "max",
        description="Where weights saturate: at the largest of those that share a step (max), which leaves room for "
        "making good, or where the squared error of the weights is least (mse).",
    )
    allocation: Literal["equal", "output"] = Field(
        "equal",
        description="Whether every layer has the whole bit-width at or below the budget's bits (equal), or layers get "
        "those with which nearest rounding changes their outputs least while the average is kept (output).",
    )
    statistics: Flag = Field(
        True,
        description="Recompute the running statistics of batch norms at the end, on as many training batches as settle "
        "them (at most 100); no label is used.",
    )
    calibration: Ranges = "percentile"
