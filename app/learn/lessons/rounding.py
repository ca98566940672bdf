"""Lesson 2, uniform quantization: the error of rounding against the error of clipping, on a real layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from app.figures.learn import rounding as figures
from app.learn.lessons import shipped
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import percent, tex
from compression.quant.errors import ErrorParts, clip_sweep, error_parts
from compression.quant.quantizer import levels

PERCENTS = tuple(range(10, 101, 2))
ASKED_LAYER, ASKED_BITS, NEAR = "layer1.0.conv1", 3, 4


def fields(values: Values) -> Sequence[Field]:
    """Layer, bits, and where the range ends."""
    explained = "Values beyond the bound q_m are moved to it. 100 % is the layer's largest weight: nothing is clipped."
    return (
        shipped.layer_field(ASKED_LAYER),
        Slider(
            "bits",
            "Bits b",
            2,
            8,
            1,
            4,
            help="Each bit doubles the number of values that a weight may take.",
            half=True,
        ),
        Slider("clip", "Clipping bound, %", 10, 100, 2, 100, help=explained, half=True),
    )


@lru_cache(maxsize=64)
def sweep(layer: str, bits: int) -> tuple[ErrorParts, ...]:
    """The error at every bound that the slider can take."""
    weight = shipped.layers()[layer]
    largest = float(weight.abs().max())
    return tuple(clip_sweep(weight, [largest * share / 100 for share in PERCENTS], bits))


def show(values: Values) -> Shown:
    """The layer's histogram under its quantizer, and the two errors over the bound."""
    layer, bits = str(values["layer"]), int(values["bits"])
    weight = shipped.layers()[layer]
    now = error_parts(weight, float(weight.abs().max()) * float(values["clip"]) / 100, bits)
    info = figures.rounding_info(weight.flatten().numpy(), now, bits, PERCENTS, sweep(layer, bits))
    larger = "clipping" if now.clipping > now.rounding else "rounding"
    said = f"{now.clipped:,} of {weight.numel():,} weights are clipped. Most of the error is **{larger}**: "
    way = info.best - int(values["clip"])
    said += (
        "a wider range lowers the total."
        if way > 0
        else "a narrower range lowers the total."
        if way
        else ("no other bound does better, **you are at the bottom**.")
    )
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
        "share": percent(now.total / now.signal),
        "asked_layer": ASKED_LAYER,
        "asked_bits": str(ASKED_BITS),
        "best": f"{answer().value:.0f}",
        "gain": f"{gain():.1f}",
    }
    return Shown(figures.rounding_figure(info), said, facts, info.rows)


def gain() -> float:
    """How many dB the best bound brings over the largest weight, in the exercise."""
    found = sweep(ASKED_LAYER, ASKED_BITS)
    return max(parts.sqnr for parts in found) - found[-1].sqnr


def answer() -> Number:
    """The bound, in percent, with the least error for the layer and bits asked for."""
    found = sweep(ASKED_LAYER, ASKED_BITS)
    best = min(range(len(PERCENTS)), key=lambda i: found[i].total)
    return Number(PERCENTS[best], NEAR, "% of the largest weight")


LESSON = Lesson(
    fields, show, answer, (See("runs", "See the bits of {run}", "gallery.resnet8-mnist5k.geta", ("geta", "opq")),)
)
