"""What GETA reads of a budget: its asks, and its options with two presets, the paper or what works in few epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from compression.asks import ActivationBits, BitRange, QuantizerRate
from compression.bounds import HIGHEST_BITS
from compression.methods.geta.schedule import StageSchedule
from compression.options import Real
from compression.pruning.criteria import DEFAULT_WEIGHTS
from compression.pruning.unit_options import UnitOptions
from compression.reading import Flag
from compression.training.options import Distill, LearnedRangeOptions, Ranges, Recalibrate, Warmup, refuse_options

WEIGHT_BITS, ACTIVATION_BITS = BitRange(), ActivationBits()
SCHEDULE, RATE = StageSchedule(), QuantizerRate()
TENSOR, CHANNEL = "tensor", "channel"

PAPER: Mapping[str, Any] = {
    "order": "bits_first",
    "bit_rule": "bounds",
    "mean_bits": 0.0,
    "rise": "linear",
    "renew_prices": False,
    "forgetting": "published",
    "tied_ranges": False,
    "gradient_scale": False,
    "criteria": dict(DEFAULT_WEIGHTS),
    "saliency_batches": 1,
    "cost": "none",
    "clip": "max",
    "ends": "same",
    "ranges": "max",
    "free_threshold": False,
    "unsigned": False,
    "distill": 0.0,
    "distill_features": 0.0,
    "distill_rise": "constant",
    "lr_warmup": 0.0,
    "lr_restart": 0.0,
    "recalibrate": 0,
    "oscillation": "none",
}
"""Saliency of five criteria on one batch, ranges from the largest weight, labels only (GETA, section 4, QASSO)."""


ACCURATE: Mapping[str, Any] = {"forgetting": "uniform", "ranges": "fitted", "unsigned": True}
"""What ablations of this version found to lose less than the defaults, or as little without a jump of the loss at each
commit (``assets/gallery/README.md``)."""
PRESETS: Mapping[str, Mapping[str, Any]] = {"tuned": {}, "accurate": ACCURATE, "paper": PAPER}
"""Preset → the options in which it differs from the defaults."""


class GetaOptions(UnitOptions, LearnedRangeOptions):
    """What :class:`Geta` takes beside its sparsity, bits and schedule; the defaults are the preset ``tuned``."""

    preset: Literal["tuned", "accurate", "paper"] = Field(
        "tuned",
        description="Where the other options start from: paper is GETA to the letter; tuned has distillation and calm "
        "choices; accurate moreover fits ranges of activations, spends no needless sign on them and forgets evenly.",
    )
    joint_steps: Literal["largest", "gradual", "learned"] = Field(
        "largest",
        title="Joint step",
        description="Which step a layer takes in the joint stage where any descends: the largest (fewest bits), as "
        "published, one that grows gradually, or the learned one.",
    )
    order: Literal["bits_first", "bits_late", "prune_first", "activations_first"] = Field(
        "bits_first",
        title="Order of stages",
        description="When bit-widths fall: before channels are removed, as published, while they are, after that, or "
        "those of activations before and those of weights while.",
    )
    bit_rule: Literal["bounds", "priced"] = Field(
        "bounds",
        title="What sets the bits",
        description="What sets a bit-width inside its range: its bounds and joint_steps, as published, or a price on "
        "bit operations, under which layers exchange bits while channels are removed.",
    )
    mean_bits: Real = Field(
        0.0,
        ge=0,
        le=HIGHEST_BITS,
        title="Mean bits aimed at",
        description="With bit_rule priced, the bit-width whose bit operations the run ends at or just below, were it "
        "every quantizer's inside its range; 0 takes the middle of each range.",
    )
    rise: Literal["linear", "cubic", "damage"] = Field(
        "linear",
        title="How removal rises",
        description="How removal rises over the pruning periods: by the same amount in each, as published, much in "
        "the first ones and little in the last, or by the same share of the saliency that is to be removed.",
    )
    forgetting: Literal["published", "half", "uniform"] = Field(
        "published",
        title="How fast channels are forgotten",
        description="How fast redundant channels are forgotten: as published only as far as the step descends almost "
        "fully, half as fast a descent, or evenly over the period.",
    )
    tied_ranges: Flag = Field(
        False,
        title="Ranges follow bounded steps",
        description="Where a bit bound holds a quantizer's step, its range learns from the gradient of the step too.",
    )
    gradient_scale: Flag = Field(
        False,
        title="Scale the gradients of steps",
        description="Scale the gradients of steps and ranges by the number of values they stand for (LSQ).",
    )
    clip: Literal["max", "fitted"] = Field(
        "fitted",
        title="Range of the weights",
        description="Range of the weights' quantizers: up to the largest weight, or fitted for the least squared "
        "error.",
    )
    ranges: Ranges = "max"
    weights: Literal["tensor", "channel"] = Field(
        "tensor",
        title="Range and step shared by",
        description="What shares a range and a step: all weights of a layer, as published, or those of one output "
        "channel. The bit-width is the layer's in both cases; each channel costs 4 bytes more.",
    )
    distill: Distill = 0.9
    lr_warmup: Warmup = 0.02
    recalibrate: Recalibrate = 100

    @model_validator(mode="after")
    def _check(self) -> GetaOptions:
        """Refuse what sets bit-widths from outside."""
        refuse_options(self, "geta", {"inherit": "bits that are learned: its stages lower them from 16"})
        return self

    @classmethod
    def read(cls, options: Mapping[str, Any], method: str) -> Self:
        """The preset that the options name, with the other options on top.

        Raises:
            CompressionError: an unknown option or saliency criterion, or an impossible value.
        """
        chosen = super().read(options, method)
        return super().read({**PRESETS[chosen.preset], **options}, method)
