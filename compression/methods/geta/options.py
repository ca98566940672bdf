"""GETA's options: two presets, and what each value means. The paper to the letter, or what works best in few epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.geta.joint import LARGEST, STEP_RULES
from compression.methods.options import Option, check
from compression.pruning import unit_cost
from compression.pruning.saliency import DEFAULT_WEIGHTS, check_criteria

CLIPS = ("max", "fitted")
MOST_BATCHES = 100_000
TENSOR, CHANNEL = "tensor", "channel"


@dataclass(frozen=True)
class Settings:
    """All options of a run, resolved; the fields are explained in :data:`OPTIONS`. The defaults are the paper's."""

    criteria: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    saliency_batches: int = 1
    cost: str = "none"
    joint_steps: str = LARGEST
    cost_power: float = 0.5
    clip: str = "max"
    weights: str = TENSOR
    distill: float = 0.0
    temperature: float = 4.0
    lr_warmup: float = 0.0
    recalibrate: int = 0


PRESETS: Mapping[str, Settings] = {
    "tuned": Settings(
        criteria={"taylor_second_order": 1.0},
        saliency_batches=100,
        cost="macs",
        clip="fitted",
        distill=0.9,
        lr_warmup=0.02,
        recalibrate=100,
    ),
    "paper": Settings(),
}
"""``paper``: saliency of five criteria on one batch, ranges from the largest weight, labels only (QASSO, section 4)."""
_TUNED = PRESETS["tuned"]

OPTIONS: tuple[Option, ...] = (
    Option(
        "preset",
        "tuned",
        "Where the other options start from: paper is GETA to the letter, tuned what lost least on real data.",
        choices=tuple(PRESETS),
    ),
    Option(
        "distill",
        _TUNED.distill,
        "How much of the loss is agreement with the dense network instead of with the labels. 0 leaves it out.",
        low=0,
        high=1,
    ),
    Option("temperature", _TUNED.temperature, "How much the answers compared are softened.", low=0.1, high=100),
    Option("criteria", _TUNED.criteria, "What makes a unit matter: saliency criteria and their weights."),
    Option(
        "saliency_batches",
        _TUNED.saliency_batches,
        "Over how many training steps saliency is averaged; 1 looks at the last update only.",
        low=1,
        high=MOST_BATCHES,
    ),
    Option(
        "cost",
        _TUNED.cost,
        "What a unit's saliency is set against: the MACs or parameters that leave with it, or nothing.",
        choices=unit_cost.KINDS,
    ),
    Option(
        "cost_power",
        _TUNED.cost_power,
        "How strongly: saliency is divided by cost to this power; 0 ignores cost, 1 is saliency per MAC.",
        low=0,
        high=4,
    ),
    Option(
        "joint_steps",
        _TUNED.joint_steps,
        "Which step a layer takes in the joint stage where any descends: the largest (fewest bits), as published, one "
        "that grows gradually, or the learned one.",
        choices=STEP_RULES,
    ),
    Option(
        "clip",
        _TUNED.clip,
        "Range of the weights' quantizers: up to the largest weight, or fitted for the least squared error.",
        choices=CLIPS,
    ),
    Option(
        "weights",
        _TUNED.weights,
        "What shares a range and a step: all weights of a layer, as published, or those of one output channel. The "
        "bit-width is the layer's in both cases; each channel costs 4 bytes more.",
        choices=(TENSOR, CHANNEL),
    ),
    Option(
        "lr_warmup", _TUNED.lr_warmup, "Share of the run in which the learning rate rises from zero.", low=0, high=0.5
    ),
    Option(
        "recalibrate",
        _TUNED.recalibrate,
        "Training batches over which batch-norm statistics are taken anew at the end; 0 keeps the running ones.",
        low=0,
        high=MOST_BATCHES,
    ),
)


def settings(budget: Budget) -> Settings:
    """The preset that a budget names with its other options on top.

    Raises:
        CompressionError: an unknown option or saliency criterion, or an impossible value.
    """
    asked: dict[str, Any] = dict(budget.options)
    check(asked, OPTIONS, "geta")
    criteria = asked.get("criteria", {})
    check_criteria(criteria)
    if "criteria" in asked and not criteria:
        raise CompressionError("geta: criteria must name at least one saliency criterion")
    return dataclasses.replace(PRESETS[asked.pop("preset", "tuned")], **asked)
