"""GETA's options: two presets, and what each value means. The paper to the letter, or what works best in few epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from compression.errors import CompressionError
from compression.options import Integer, Options, PositiveNumber, Real
from compression.pruning.saliency import DEFAULT_WEIGHTS, check_criteria
from compression.reading import Text

MOST_BATCHES = 100_000
TENSOR, CHANNEL = "tensor", "channel"

PAPER: Mapping[str, Any] = {
    "criteria": dict(DEFAULT_WEIGHTS),
    "saliency_batches": 1,
    "cost": "none",
    "clip": "max",
    "distill": 0.0,
    "lr_warmup": 0.0,
    "recalibrate": 0,
}
"""Saliency of five criteria on one batch, ranges from the largest weight, labels only (GETA, section 4, QASSO)."""


class GetaOptions(Options):
    """What :class:`Geta` can be told beside its sparsity, bits and schedule; the defaults are the preset ``tuned``."""

    preset: Literal["tuned", "paper"] = Field(
        "tuned",
        description="Where the other options start from: paper is GETA to the letter, tuned what lost least on real "
        "data.",
    )
    distill: Real = Field(
        0.9,
        ge=0,
        le=1,
        description="How much of the loss is agreement with the dense network instead of with the labels. 0 leaves it "
        "out.",
    )
    temperature: Real = Field(4.0, ge=0.1, le=100, description="How much the answers compared are softened.")
    criteria: Mapping[Text, PositiveNumber] = Field(
        default_factory=lambda: {"taylor_second_order": 1.0},
        description="What makes a unit matter: saliency criteria and their weights.",
    )
    saliency_batches: Integer = Field(
        100,
        ge=1,
        le=MOST_BATCHES,
        description="Over how many training steps saliency is averaged; 1 looks at the last update only.",
    )
    cost: Literal["none", "macs", "parameters"] = Field(
        "macs",
        description="What a unit's saliency is set against: the MACs or parameters that are removed with it, or "
        "nothing.",
    )
    cost_power: Real = Field(
        0.5,
        ge=0,
        le=4,
        description="How strongly: saliency is divided by cost to this power; 0 ignores cost, 1 is saliency per MAC.",
    )
    joint_steps: Literal["largest", "gradual", "learned"] = Field(
        "largest",
        description="Which step a layer takes in the joint stage where any descends: the largest (fewest bits), as "
        "published, one that grows gradually, or the learned one.",
    )
    clip: Literal["max", "fitted"] = Field(
        "fitted",
        description="Range of the weights' quantizers: up to the largest weight, or fitted for the least squared "
        "error.",
    )
    weights: Literal["tensor", "channel"] = Field(
        "tensor",
        description="What shares a range and a step: all weights of a layer, as published, or those of one output "
        "channel. The bit-width is the layer's in both cases; each channel costs 4 bytes more.",
    )
    lr_warmup: Real = Field(
        0.02, ge=0, le=0.5, description="Share of the run in which the learning rate rises from zero."
    )
    recalibrate: Integer = Field(
        100,
        ge=0,
        le=MOST_BATCHES,
        description="Training batches over which batch-norm statistics are taken anew at the end; 0 keeps the running "
        "ones.",
    )

    @field_validator("criteria")
    @classmethod
    def _check_criteria(cls, criteria: Mapping[str, float]) -> Mapping[str, float]:
        check_criteria(criteria)
        if not criteria:
            raise CompressionError("geta: criteria must name at least one saliency criterion")
        return criteria

    @classmethod
    def read(cls, options: Mapping[str, Any], method: str) -> Self:
        """The preset that the options name, with the other options on top.

        Raises:
            CompressionError: an unknown option or saliency criterion, or an impossible value.
        """
        chosen = super().read(options, method)
        return super().read({**PAPER, **options}, method) if chosen.preset == "paper" else chosen
