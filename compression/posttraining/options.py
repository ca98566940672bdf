"""What methods without training share: options that act on the dense weights first, and on biases at the end."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compression.options import Real
from compression.reading import Flag
from compression.training.options import ActivationOptions

Equalize = Literal["none", "cle", "smooth", "awq"]


class EqualizeOptions(ActivationOptions):
    """Options of methods that call :func:`compression.posttraining.prepare.prepare_model` before they round."""

    equalize: Equalize = Field(
        "none",
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
        description="Of equalize smooth: how much of the outliers of activations is moved into the weights.",
    )
    absorb: Flag = Field(
        False,
        description="With equalize cle: what a batch norm adds to a channel beyond three deviations goes into the next "
        "layer's bias behind the ReLU, which narrows the range of the activations.",
    )
    bias_correction: Flag = Field(
        False,
        description="Take the mean error that rounded weights make in each output channel out of the bias, layer by "
        "layer, on training batches without labels. Where batch-norm statistics are recomputed these absorb it; else a "
        "batch norm's running mean takes it. A layer with neither bias nor batch norm stays.",
    )
