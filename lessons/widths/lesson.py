"""Lesson 4, bits from three numbers: b(d, q_m, t), and projecting d alone against projecting all three."""

from __future__ import annotations

from collections.abc import Sequence

from compression.quant.quantizer import levels
from lessons import digits
from lessons.lesson import Lesson, Link, Number, Slider, Values, View
from lessons.maths.projection import Scalars, project_all, project_step
from lessons.numbers import tex
from lessons.widths import figure

LAYER = "layer2.0.conv2"
EXERCISE_CLIP, EXERCISE_BITS = 1.0, 4


def fields(values: Values) -> Sequence[Slider]:
    """The three numbers, and the bits allowed."""
    finer, wider = "Smaller steps mean more values: more bits.", "A wider range needs more steps: more bits."
    return (
        Slider("d", "Step d", 0.005, 0.3, 0.005, 0.01, help=finer, half=True, format="%.3f"),
        Slider("qm", "Clipping bound q_m", 0.2, 1.5, 0.05, 0.5, help=wider, half=True),
        Slider("t", "Exponent t", 0.6, 1.4, 0.05, 1.0, help="1 is the uniform quantizer.", half=True),
        Slider("most", "Bits allowed", 2, 8, 1, 4, help="The upper bound that GETA lowers step by step.", half=True),
    )


def clipped(clip: float) -> float:
    """The share of a real layer's weights beyond a bound."""
    return float((digits.layers()[LAYER].abs() > clip).double().mean())


def show(values: Values) -> View:
    """The bit-width as contour lines over d and q_m, with the way of both projections."""
    now = Scalars(float(values["d"]), float(values["qm"]), float(values["t"]))
    most = int(values["most"])
    alone, together = project_step(now, most), project_all(now, most)
    info = figure.WidthsInfo(now, alone, together, most)
    caption = f"**{now.bits:.2f} bits** are too many. Moving d alone leaves q_m and t as training found them; the "
    caption += f"nearest point in all three also moves q_m to **{together.clip:.4f}** and t to "
    caption += f"**{together.exponent:.4f}**."
    if now.bits <= most:
        caption = (
            f"**{now.bits:.2f} bits** are within {most}: nothing has to move. A smaller d leaves the allowed side."
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
        "exercise_qm": f"{EXERCISE_CLIP:g}",
        "exercise_bits": str(EXERCISE_BITS),
        "exercise_levels": f"{levels(EXERCISE_BITS):.0f}",
        "answer": f"{answer().value:.4f}",
    }
    return View(figure.widths_figure(info), caption, facts, info.rows)


def answer() -> Number:
    """The step that gives the bits of the exercise."""
    return Number(project_step(Scalars(1e-6, EXERCISE_CLIP, 1.0), EXERCISE_BITS).step, 0.002)


LESSON = Lesson(
    fields, show, answer, (Link("runs", "See bits per layer in {run}", "gallery.resnet8-mnist5k.geta", ("geta",)),)
)
