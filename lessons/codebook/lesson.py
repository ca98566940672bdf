"""Lesson 7, one codebook for all channels: the best bits per channel come from one shared step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lessons import digits
from lessons.codebook import figure
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths import codebook
from lessons.numbers import tex

SCALE_BITS = 16  # of a step stored for every channel
EXERCISE_RANGES, EXERCISE_BITS = (1.0, 4.0), 4


def fields(values: Values) -> Sequence[Choice | Slider]:
    """The layer, and the average bits of a weight."""
    explained = "Bits a weight, averaged over the channels. Wide channels spend more, narrow ones fewer."
    return (
        digits.layer_field("layer2.0.conv1"),
        Slider("average", "Average bits B", 2, 8, 1, 4, help=explained),
    )


def show(values: Values) -> View:
    """Every channel's range against the shared step, and the bits it spends."""
    name, bits = str(values["layer"]), int(values["average"])
    rows = digits.layers()[name].flatten(1).double().numpy()
    ranges, size = np.abs(rows).max(axis=1), rows.shape[1]
    shared = codebook.shared(ranges, np.full(len(rows), size), bits)
    one = float(codebook.rounding_errors(rows, shared.step).mean())
    separate = float(codebook.rounding_errors(rows, codebook.separate_steps(ranges, bits)).mean())
    info = figure.CodebookInfo(ranges, shared, bits)
    less = 100 * (1 - one / separate)
    compared = f"**{less:.0f} % less** error" if less >= 0 else f"**{-less:.0f} % more** error"
    caption = f"Measured on the weights: one shared step has {compared} than a step for every channel at {bits} bits "
    caption += f"each, and stores 1 step instead of {len(rows)}."
    facts = {
        "layer": name,
        "bits": str(bits),
        "channels": str(len(rows)),
        "step": tex(shared.step),
        "predicted": tex(shared.step**2 / 12),
        "measured": tex(one),
        "separate": tex(separate),
        "saved": f"{shared.saved:.2f}",
        "fewest": f"{shared.bits.min():.1f}",
        "most": f"{shared.bits.max():.1f}",
        "overhead": f"{SCALE_BITS / size:.2f}",
        "scale_bits": str(SCALE_BITS),
        "exercise_narrow": f"{EXERCISE_RANGES[0]:g}",
        "exercise_wide": f"{EXERCISE_RANGES[1]:g}",
        "exercise_bits": str(EXERCISE_BITS),
        "answer": f"{answer().value:g}",
        "answer_narrow": f"{2 * EXERCISE_BITS - answer().value:g}",
    }
    return View(figure.codebook_figure(info), caption, facts, info.rows)


def answer() -> Number:
    """The bits of the wider of two channels."""
    shared = codebook.shared(EXERCISE_RANGES, (1, 1), EXERCISE_BITS)
    return Number(float(shared.bits[1]), 0.01, "bits")


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("compare", "See the bits of {run}", "gallery.resnet8-mnist5k.opq-03", ("opq", "geta")),
        Link("budget", "Allocate on your model", query={"method": "opq"}),
    ),
)
