"""Lesson 3, learning through a staircase: straight-through gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lessons.lesson import Lesson, Link, Number, Slider, Values, View
from lessons.maths.surrogate import Point, clipped_power, finite_differences, gradients, residue
from lessons.numbers import tex
from lessons.staircase import figure

EXERCISE = Point(0.33, 0.2, 1.0)
NAMES = {"x": "x", "step": "d", "clip": "q_m", "exponent": "t"}


def fields(values: Values) -> Sequence[Slider]:
    """A place, and the quantizer's three numbers."""
    beyond = "Beyond it, values are moved to the bound."
    return (
        Slider("x", "Value x", -1.5, 1.5, 0.01, 0.63, help="A weight. The orange marker is where it lands.", half=True),
        Slider("d", "Step d", 0.05, 0.6, 0.01, 0.25, help="The height of the stairs.", half=True),
        Slider("qm", "Clipping bound q_m", 0.3, 1.4, 0.05, 1.0, help=beyond, half=True),
        Slider("t", "Exponent t", 0.5, 1.5, 0.05, 1.0, help="1: uniform; other values bend the stairs.", half=True),
    )


def show(values: Values) -> View:
    """The staircase with its surrogate, the gradient of x along it, and the four gradients in numbers."""
    point = Point(*(float(values[key]) for key in ("x", "d", "qm", "t")))
    exact, smooth = gradients(point), finite_differences(point)
    caption = "x is **clipped**: moving it changes nothing, so its gradient is 0; **q_m** gets the gradient instead."
    if abs(point.x) <= point.clip:
        caption = "x is **inside** the range: its gradient passes, and q_m gets none."
    facts = {
        "v": tex(clipped_power(point)),
        "r": tex(residue(point)),
        "true_x": tex(finite_differences(point, held=math.nan).x),
        "exercise_x": f"{EXERCISE.x:g}",
        "exercise_d": f"{EXERCISE.step:g}",
        "exercise_qm": f"{EXERCISE.clip:g}",
        "answer": f"{answer().value:.2f}",
    }
    rows = []
    for name, symbol in NAMES.items():
        slope, check = getattr(exact, name), getattr(smooth, name)
        facts |= {f"g_{name}": tex(slope), f"fd_{name}": tex(check)}
        columns = ("of", "straight-through", "finite difference of the surrogate")
        rows.append(dict(zip(columns, (symbol, round(slope, 6), round(check, 6)), strict=True)))
    return View(figure.staircase_figure(point), caption, facts, rows)


def answer() -> Number:
    """The gradient of d at the point of the exercise."""
    return Number(gradients(EXERCISE).step, 0.02)


LESSON = Lesson(
    fields,
    show,
    answer,
    (Link("groups", "See where quantizers sit in {run}", "gallery.resnet8-mnist5k.geta", ("geta", "uniq")),),
)
