"""Lesson 2, uniform quantization: the error of rounding against the error of clipping, on a real layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from compression.quant.quantizer import levels
from lessons import digits
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths.errors import ErrorParts, clip_sweep, error_parts
from lessons.numbers import tex
from lessons.rounding import figure

PERCENTS = tuple(range(10, 101, 2))
EXERCISE_LAYER, EXERCISE_BITS, NEAR = "layer1.0.conv1", 3, 4


def fields(values: Values) -> Sequence[Choice | Slider]:
    """Layer, bits, and where the range ends."""
    doubling = "Each bit doubles the number of values that a weight may take."
    beyond = "Values beyond the bound q_m are moved to it. 100 % is the layer's largest weight: nothing is clipped."
    return (
        digits.layer_field(EXERCISE_LAYER),
        Slider("bits", "Bits b", 2, 8, 1, 4, help=doubling, half=True),
        Slider("clip", "Clipping bound, %", 10, 100, 2, 100, help=beyond, half=True),
    )


@lru_cache(maxsize=64)
def sweep(layer: str, bits: int) -> tuple[ErrorParts, ...]:
    """The error at every bound that the slider can take."""
    weight = digits.layers()[layer]
    largest = float(weight.abs().max())
    return tuple(clip_sweep(weight, [largest * share / 100 for share in PERCENTS], bits))


def show(values: Values) -> View:
    """The layer's histogram under its quantizer, and the two errors over the bound."""
    layer, bits = str(values["layer"]), int(values["bits"])
    weight = digits.layers()[layer]
    now = error_parts(weight, float(weight.abs().max()) * float(values["clip"]) / 100, bits)
    info = figure.rounding_info(weight.flatten().numpy(), now, bits, PERCENTS, sweep(layer, bits))
    larger = "clipping" if now.clipping > now.rounding else "rounding"
    advice = "no other bound does better, **you are at the bottom**."
    if info.best != int(values["clip"]):
        advice = f"a {'wider' if info.best > int(values['clip']) else 'narrower'} range lowers the total."
    caption = f"{now.clipped:,} of {weight.numel():,} weights are clipped. Most of the error is **{larger}**: {advice}"
    facts = {
        "bits": str(bits),
        "clip": tex(now.clip),
        "levels": f"{levels(bits):.0f}",
        "values": f"{2 * levels(bits) + 1:.0f}",
        "step": tex(now.step),
        "rounding": tex(now.rounding),
        "clipping": tex(now.clipping),
        "total": tex(now.total),
        "signal": tex(now.signal),
        "sqnr": f"{now.sqnr:.1f}",
        "exercise_layer": EXERCISE_LAYER,
        "exercise_bits": str(EXERCISE_BITS),
        "best": f"{answer().value:.0f}",
        "gain": f"{gain():.1f}",
    }
    return View(figure.rounding_figure(info), caption, facts, info.rows)


def gain() -> float:
    """How many dB the best bound brings over the largest weight, in the exercise."""
    every = sweep(EXERCISE_LAYER, EXERCISE_BITS)
    return max(parts.sqnr for parts in every) - every[-1].sqnr


def answer() -> Number:
    """The bound, in percent, with the least error for the layer and bits of the exercise."""
    every = sweep(EXERCISE_LAYER, EXERCISE_BITS)
    best = min(range(len(PERCENTS)), key=lambda i: every[i].total)
    return Number(PERCENTS[best], NEAR, "% of the largest weight")


LESSON = Lesson(
    fields, show, answer, (Link("runs", "See the bits of {run}", "gallery.resnet8-mnist5k.geta", ("geta", "opq")),)
)
