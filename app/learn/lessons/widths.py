"""Lesson 4, bits from three numbers: b(d, q_m, t), and projecting d alone against projecting all three."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from app.figures.learn import widths as figures
from app.learn.lessons import shipped
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import tex
from compression.quant.projection import Scalars, project_all, project_step
from compression.quant.quantizer import levels

LAYER = "layer2.0.conv2"
ASKED_CLIP, ASKED_BITS = 1.0, 4


def fields(values: Values) -> Sequence[Field]:
    """The three numbers, and the bits allowed."""
    return (
        Slider(
            "d",
            "Step d",
            0.005,
            0.3,
            0.005,
            0.01,
            form="%.3f",
            help="Smaller steps mean more values: more bits.",
            half=True,
        ),
        Slider(
            "qm",
            "Clipping bound q_m",
            0.2,
            1.5,
            0.05,
            0.5,
            help="A wider range needs more steps: more bits.",
            half=True,
        ),
        Slider("t", "Exponent t", 0.6, 1.4, 0.05, 1.0, help="1 is the uniform quantizer.", half=True),
        Slider("most", "Bits allowed", 2, 8, 1, 4, help="The upper bound that GETA lowers step by step.", half=True),
    )


def clipped(clip: float) -> float:
    """The share of a real layer's weights that a bound clips."""
    weight: torch.Tensor = shipped.layers()[LAYER]
    return float((weight.abs() > clip).double().mean())


def show(values: Values) -> Shown:
    """The bit-width as contour lines over d and q_m, with the way of both projections."""
    now = Scalars(float(values["d"]), float(values["qm"]), float(values["t"]))
    most = int(values["most"])
    alone, together = project_step(now, most), project_all(now, most)
    info = figures.widths_info(now, alone, together, most)
    if now.bits <= most:
        said = f"**{now.bits:.2f} bits** are within {most}: nothing has to move. A smaller d leaves the allowed side."
    else:
        said = (
            f"**{now.bits:.2f} bits** are too many. Moving d alone leaves q_m and t as training found them; the "
            f"nearest point in all three also moves q_m to **{together.clip:.4f}** and t to "
            f"**{together.exponent:.4f}**."
        )
    facts = {
        "d": tex(now.step),
        "qm": f"{now.clip:g}",
        "t": f"{now.exponent:g}",
        "top": tex(now.clip**now.exponent),
        "bits": f"{now.bits:.2f}",
        "most": str(most),
        "levels": f"{levels(most):.0f}",
        "alone": tex(alone.step),
        "all_d": tex(together.step),
        "all_qm": tex(together.clip, 4),
        "all_t": tex(together.exponent, 4),
        "way_alone": tex(now.distance(alone), 4),
        "way_all": tex(now.distance(together), 4),
        "layer": LAYER,
        "clipped_alone": f"{100 * clipped(alone.clip):.2f}",
        "clipped_all": f"{100 * clipped(together.clip):.2f}",
        "asked_qm": f"{ASKED_CLIP:g}",
        "asked_bits": str(ASKED_BITS),
        "asked_levels": f"{levels(ASKED_BITS):.0f}",
        "asked": f"{answer().value:.4f}",
    }
    return Shown(figures.widths_figure(info), said, facts, info.rows)


def answer() -> Number:
    """The step that gives the bits asked for."""
    return Number(project_step(Scalars(1e-6, ASKED_CLIP, 1.0), ASKED_BITS).step, 0.002)


LESSON = Lesson(
    fields, show, answer, (See("runs", "See bits per layer in {run}", "gallery.resnet8-mnist5k.geta", ("geta",)),)
)
