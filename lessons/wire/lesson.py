"""Lesson 15, gradients on the wire: levels for a real gradient, and what the mean of several processes comes to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from compression.quant.gradient_levels import middle_level
from compression.training.wire import BLOCK, wire_bytes
from lessons import digits
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths import wire
from lessons.wire import figure
from lessons.wire.figure import LABELS

SMALLEST = 512  # weights of a layer, so that there are more than levels
EXERCISE = (0, 1, 2, 2, 3, 5, 8, 10)


def fields(values: Values) -> Sequence[Choice | Slider]:
    """A layer, how its gradient is rounded, bits, and how many processes send theirs."""
    rounding = "At random: up or down so that it is right on average. To the nearest: the same way every time."
    return (
        digits.layer_field("layer2.0.conv2", SMALLEST),
        Choice("way", "Rounding", dict(LABELS), wire.BEST, help=rounding, half=True),
        Slider("bits", "Bits a value", wire.WIDTHS[0], wire.WIDTHS[-1], 1, 4, half=True),
        Slider("processes", "Processes", 1, 64, 1, 4, help="As if each had this gradient: what their mean is off by."),
    )


def block(layer: str) -> torch.Tensor:
    """The first values of a layer's gradient, as many as have levels of their own, fp32."""
    return digits.gradients()[f"{layer}.weight"].flatten()[:BLOCK]


@lru_cache(maxsize=16)
def curves(layer: str) -> figure.Curves:
    """What each way comes to, for every number of bits."""
    return [wire.roundings(block(layer), bits) for bits in wire.WIDTHS]


def sizes() -> list[int]:
    """Bytes a step of the whole network, for every number of bits."""
    matrices = sum(gradient.numel() for gradient in digits.gradients().values() if gradient.dim() > 1)
    return [wire_bytes(matrices, _numbers() - matrices, bits) for bits in wire.WIDTHS]


def _numbers() -> int:
    return sum(gradient.numel() for gradient in digits.gradients().values())


def show(values: Values) -> View:
    """One gradient in so many bits."""
    layer, way = str(values["layer"]), str(values["way"])
    bits, processes = int(values["bits"]), int(values["processes"])
    each, size = curves(layer)[bits - 1], sizes()[bits - 1]
    alone, mean = ({name: f"{100 * rounding.off(n):.3g}" for name, rounding in each.items()} for n in (1, processes))
    caption = (
        f"One process is off by **{alone[wire.BEST]} %** with ORQ, by {alone[wire.NEAREST]} % to the nearest; "
        f"the mean of {processes} by **{mean[wire.BEST]} %**, and still by {mean[wire.NEAREST]} %."
    )
    total = sum(EXERCISE)
    facts = {
        "count": f"{len(block(layer)):,}",
        "images": str(digits.IMAGES),
        "bits": str(bits),
        "levels": str(2**bits),
        "bytes": f"{size:,}",
        "whole": f"{4 * _numbers():,}",
        "fewer": f"{4 * _numbers() / size:.1f}",
        "exercise": ", ".join(map(str, EXERCISE)),
        "low": str(EXERCISE[0]),
        "high": str(EXERCISE[-1]),
        "total": str(total),
        "share": f"{total / EXERCISE[-1]:g}",
        "answer": f"{answer().value:g}",
        "over": str(sum(value > answer().value for value in EXERCISE)),
        "at": str(sum(value >= answer().value for value in EXERCISE)),
        "even": f"{(EXERCISE[0] + EXERCISE[-1]) / 2:g}",
    }
    picture = figure.wire_figure(block(layer).numpy(), curves(layer), way, bits, processes)
    return View(picture, caption, facts, figure.rows(curves(layer), processes, sizes()))


def answer() -> Number:
    """The best level between the ends of the exercise's values."""
    return Number(float(middle_level(torch.tensor([EXERCISE], dtype=torch.float64))[0]), 0.0)


LESSON = Lesson(
    fields,
    show,
    answer,
    (Link("runs", "See how the loss of {run} falls", "gallery.resnet8-mnist5k.geta"),),
)
