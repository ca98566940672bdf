"""Lesson 7, one codebook for all channels: the best bits per channel come from one shared step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.figures.learn import codebook as figures
from app.learn.lessons import shipped
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import tex
from compression.quant import codebook

SCALE_BITS = 16  # of a step stored for every channel
ASKED_RANGES, ASKED_BITS = (1.0, 4.0), 4


def fields(values: Values) -> Sequence[Field]:
    """Which layer, and how many bits a weight on average."""
    explained = "Bits a weight, averaged over the channels. Wide channels spend more, narrow ones fewer."
    return (
        shipped.layer_field("layer2.0.conv1"),
        Slider("average", "Average bits B", 2, 8, 1, 4, help=explained),
    )


def show(values: Values) -> Shown:
    """Every channel's range against the shared step, and the bits it spends."""
    name, bits = str(values["layer"]), int(values["average"])
    rows = shipped.layers()[name].flatten(1).double().numpy()
    ranges, size = np.abs(rows).max(axis=1), rows.shape[1]
    found = codebook.shared(ranges, np.full(len(rows), size), bits)
    one = float(codebook.rounding_errors(rows, found.step).mean())
    own = float(codebook.rounding_errors(rows, codebook.separate_steps(ranges, bits)).mean())
    info = figures.codebook_info(ranges, found, bits)
    less = 100 * (1 - one / own)
    compared = f"**{less:.0f} % less** error" if less >= 0 else f"**{-less:.0f} % more** error"
    said = (
        f"Measured on the weights: one shared step has {compared} than a step for every channel at {bits} bits each, "
        f"and stores 1 step instead of {len(rows)}."
    )
    facts = {
        "layer": name,
        "bits": str(bits),
        "channels": str(len(rows)),
        "step": tex(found.step),
        "predicted": tex(found.step**2 / 12),
        "measured": tex(one),
        "own": tex(own),
        "saved": f"{found.saved:.2f}",
        "fewest": f"{found.bits.min():.1f}",
        "most": f"{found.bits.max():.1f}",
        "overhead": f"{SCALE_BITS / size:.2f}",
        "scale_bits": str(SCALE_BITS),
        "asked_narrow": f"{ASKED_RANGES[0]:g}",
        "asked_wide": f"{ASKED_RANGES[1]:g}",
        "asked_bits": str(ASKED_BITS),
        "asked": f"{answer().value:g}",
        "asked_rest": f"{2 * ASKED_BITS - answer().value:g}",
    }
    return Shown(figures.codebook_figure(info), said, facts, info.rows)


def answer() -> Number:
    """The bits of the wider of two channels."""
    found = codebook.shared(ASKED_RANGES, (1, 1), ASKED_BITS)
    return Number(float(found.bits[1]), 0.01, "bits")


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        See("compare", "See the bits of {run}", "gallery.resnet8-mnist5k.opq-03", ("opq", "geta")),
        See("budget", "Allocate on your model", query={"method": "opq"}),
    ),
)
