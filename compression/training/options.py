"""The options that every trained method has, so that methods can be compared on equal terms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field

from compression.errors import CompressionError
from compression.options import Integer, Option, Options, Real
from compression.reading import Flag

MOST_BATCHES = 100_000

Distill = Annotated[
    Real,
    Field(
        ge=0,
        le=1,
        title="Distillation",
        description="How much of the loss is agreement with the dense network instead of with the labels. 0 leaves it "
        "out.",
    ),
]
Temperature = Annotated[
    Real,
    Field(
        ge=0.1, le=100, title="Temperature of distillation", description="How much the answers compared are softened."
    ),
]
DistillFeatures = Annotated[
    Real,
    Field(
        ge=0,
        le=1000,
        title="Distillation of features",
        description="Weight of the distance between the outputs of the network's stages and those of the dense "
        "network, over the channels that remain. 0 leaves it out.",
    ),
]
DistillRise = Annotated[
    Literal["constant", "rising"],
    Field(
        title="Distillation over the run",
        description="Whether what the dense network teaches has its full weight from the first step on, or rises to it "
        "linearly over the run.",
    ),
]
Noise = Annotated[
    Real,
    Field(
        ge=0.01,
        le=1,
        title="Share of weights quantized in a step",
        description="Share of each layer's weights, drawn anew in every step, that is quantized while training; 1 "
        "quantizes them all.",
    ),
]
Inherit = Annotated[
    Integer,
    Field(
        ge=0,
        le=14,
        description="So many bits more than it is to have does every layer begin with, and loses them one by one, in "
        "equal shares of the steps that train the quantized network, each with a whole schedule of the learning rate "
        "unless lr_restart says otherwise: fewer bits start from the weights and the doubled steps of more (bit "
        "inheritance). 0 trains at the final bits only.",
    ),
]
Ema = Annotated[
    Real,
    Field(
        ge=0,
        le=0.9999,
        title="Decay of the weight average",
        description="Decay of the moving average of the weights that is evaluated and stored at the end; 0 takes the "
        "last weights.",
    ),
]
Warmup = Annotated[
    Real,
    Field(
        ge=0,
        le=0.5,
        title="Learning rate warm-up",
        description="Share of the run, or of a stage with a separate rate schedule, in which the learning rate rises "
        "from zero.",
    ),
]
Restart = Annotated[
    Real,
    Field(
        ge=0,
        le=10,
        title="Learning rate restart",
        description="Where the last of several stages begins, the learning rate is multiplied by this and falls to 0 "
        "from there; 0 leaves it as it is.",
    ),
]
Recalibrate = Annotated[
    Integer,
    Field(
        ge=0,
        le=MOST_BATCHES,
        title="Batches of recalibration",
        description="Training batches over which batch-norm statistics are taken anew at the end; 0 keeps the running "
        "ones.",
    ),
]


OscillationRemedy = Annotated[
    Literal["none", "dampen", "freeze"],
    Field(
        title="Oscillating weights",
        description="What the last stage does about weights that jump between two values of their grid: nothing, pull "
        "all weights towards their values more and more (dampen), or hold those that jump often (freeze).",
    ),
]
Ends = Annotated[
    Literal["same", "eight"],
    Field(
        title="First and last layer",
        description="Bits of the first and the last layer's weights and inputs: like the others, or 8 where the budget "
        "has no bound for that layer. They count in the sizes, in an average of bits and in BOPs.",
    ),
]


Unsigned = Annotated[
    Flag,
    Field(
        title="Unsigned inputs",
        description="Inputs that are never negative, as behind a ReLU, are quantized without a sign: all codes are for "
        "values from 0 up, so that steps are half as large at the same bit-width.",
    ),
]


FreeThreshold = Annotated[
    Flag,
    Field(
        title="Free threshold at two bits",
        description="Two bits leave a weight -d, 0 or d, with 0 up to d/2: where weights may end at two bits, learn "
        "where 0 ends apart from d, through the quantizer's exponent. Ranges then learn from the gradient of d too.",
    ),
]
Ranges = Annotated[
    Literal["max", "percentile", "fitted"],
    Field(
        title="Range of activations",
        description="Range of activations: the largest magnitude on 8 training batches with a margin, their 99.9th "
        "percentile, or fitted for the least squared error at the fewest bits that they may have.",
    ),
]


class QuantizationOptions(Options):
    """What every method takes that quantizes all layers, trained or not."""

    ends: Ends = "same"

    @property
    def skipped(self) -> Collection[str]:
        """Layers that stay in fp32, so that none of them counts as the first or the last."""
        return ()


class ActivationOptions(QuantizationOptions):
    """What methods take that quantize the inputs of layers, too."""

    unsigned: Unsigned = False


class TrainingOptions(QuantizationOptions):
    """What every trained method takes; a method's ``Config`` extends it and may have other defaults."""

    distill: Distill = 0.0
    temperature: Temperature = 4.0
    distill_features: DistillFeatures = 0.0
    distill_rise: DistillRise = "constant"
    noise: Noise = 1.0
    inherit: Inherit = 0
    ema: Ema = 0.0
    lr_warmup: Warmup = 0.0
    recalibrate: Recalibrate = 0
    oscillation: OscillationRemedy = "none"

    @classmethod
    def table(cls) -> tuple[Option, ...]:
        """Every option: those of the method itself first, then those that it shares with others."""
        models = [kind for kind in cls.__mro__ if issubclass(kind, Options)]

        def origin(option: Option) -> int:
            return max(i for i, kind in enumerate(models) if option.name in kind.model_fields)

        return tuple(sorted(super().table(), key=origin))


def refuse_options(options: TrainingOptions, method: str, reasons: Mapping[str, str]) -> None:
    """Refuse options of all trained methods that one of them cannot follow; ``reasons``: option → what is in its way.

    Raises:
        CompressionError: naming the option that is turned on.
    """
    for name, reason in reasons.items():
        value = getattr(options, name)
        if value != type(options).model_fields[name].default:
            raise CompressionError(f"{method}: {name} {value} does not go with {reason}")


class StagedTrainingOptions(TrainingOptions):
    """What methods take that train in several stages, the last of which may restart the learning rate."""

    lr_restart: Restart = 0.0


class LearnedRangeOptions(ActivationOptions, StagedTrainingOptions):
    """What methods take that train the ranges of quantizers."""

    free_threshold: FreeThreshold = False
