"""The options that methods without training share; ``Config`` of such a method extends one of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compression.options import Integer, Real
from compression.reading import Flag
from compression.training.options import ActivationOptions, Ranges

Equalize = Literal["none", "cle", "smooth", "awq"]
Statistics = Annotated[
    Flag,
    Field(
        title="Renew batch-norm statistics",
        description="Recompute the running statistics of batch norms after rounding, on as many training batches as "
        "settle them (at most 100); no label is used.",
    ),
]
Order = Annotated[
    Literal["natural", "energy"],
    Field(
        title="Order of rounding",
        description="Order in which the weights of a neuron are rounded: as they lie in the layer, or those with the "
        "largest inputs first, while most others can still make good for them.",
    ),
]
MOST_SAMPLES = 1_000_000
ITERATIONS, RATE, STRENGTH = 2000, 0.01, 10.0
"""Of learned rounding, unless a method has options for them."""


class EqualizeOptions(ActivationOptions):
    """Options of methods that call :func:`compression.posttraining.prepare.prepare_model` before they round."""

    equalize: Equalize = Field(
        "none",
        title="Equalize channels",
        description="Scale channels between layers before rounding, which leaves the network's answers as they are: "
        "cle gives the channels of each pair of layers equal ranges, and those in front of a batch norm the range of "
        "its largest; smooth moves outliers of activations into weights, and awq searches the scales with the least "
        "output error, both on training batches without labels. ReLU and pooling may lie between, GELU, SiLU or ReLU6 "
        "not. Before a run only cle, which reads no data, is counted.",
    )
    smoothing: Real = Field(
        0.5,
        ge=0,
        le=1,
        title="Strength of smoothing",
        description="Of equalize smooth: how much of the outliers of activations is moved into the weights.",
    )
    absorb: Flag = Field(
        False,
        title="Absorb high biases",
        description="With equalize cle: what a batch norm adds to a channel beyond three deviations goes into the next "
        "layer's bias behind the ReLU, which narrows the range of the activations.",
    )
    bias_correction: Flag = Field(
        False,
        title="Correct biases",
        description="Take the mean error that rounded weights make in each output channel out of the bias, layer by "
        "layer, on training batches without labels. Where batch-norm statistics are recomputed these absorb it; else a "
        "batch norm's running mean takes it. A layer with neither bias nor batch norm stays.",
    )
    correction: Literal["data", "formula"] = Field(
        "data",
        title="How biases are corrected",
        description="Of bias_correction: the mean input of a layer is measured on training batches (data), or follows "
        "without any data from the batch norm directly in front of it or of its ReLU, as if the norm's outputs were "
        "normal (formula); layers with none there are left alone, and the log names them.",
    )


class LayerwiseOptions(EqualizeOptions):
    """Options of methods that go from layer to layer (:mod:`compression.posttraining.run`)."""

    samples: Integer = Field(
        512,
        ge=1,
        le=MOST_SAMPLES,
        title="Training inputs looked at",
        description="Training inputs, without labels, that show what flows into a layer; all, where there are fewer.",
    )
    inputs: Literal["compressed", "dense", "aligned"] = Field(
        "compressed",
        title="Inputs of a layer",
        description="What flows into a layer: what the layers before it give once they are compressed (compressed), "
        "what they give in the dense network, in one pass for all layers (dense), or the former with weights that "
        "first make good for what it differs from the latter (aligned).",
    )
    codebook: Literal["channel", "layer"] = Field(
        "channel",
        title="Step shared by",
        description="What shares a step: the weights of one output channel, whose scale costs 4 bytes (channel), or "
        "all weights of a layer (layer).",
    )
    clip: Literal["max", "mse"] = Field(
        "max",
        title="Range of the weights",
        description="Where weights saturate: at the largest of those that share a step (max), which leaves room for "
        "making good, or where the squared error of the weights is least (mse).",
    )
    allocation: Literal["equal", "output"] = Field(
        "equal",
        title="Bits of the layers",
        description="Whether every layer has the whole bit-width at or below the budget's bits (equal), or layers get "
        "those with which nearest rounding changes their outputs least while the average is kept (output).",
    )
    statistics: Statistics = True
    calibration: Ranges = "percentile"
