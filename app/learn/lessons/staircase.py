"""Lesson 3, learning through a staircase: straight-through gradients against finite differences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from app.figures.learn import staircase as figures
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import tex
from compression.quant.surrogate import Point, clipped_power, finite_differences, gradients, residue

ASKED = Point(0.33, 0.2, 1.0)
NAMES = {"x": "x", "step": "d", "clip": "q_m", "exponent": "t"}


def fields(values: Values) -> Sequence[Field]:
    """Where one looks, and the quantizer's three numbers."""
    return (
        Slider("x", "Value x", -1.5, 1.5, 0.01, 0.63, help="A weight. The orange marker is where it lands.", half=True),
        Slider("d", "Step d", 0.05, 0.6, 0.01, 0.25, help="The height of the stairs.", half=True),
        Slider(
            "qm", "Clipping bound q_m", 0.3, 1.4, 0.05, 1.0, help="Beyond it, values are moved to the bound.", half=True
        ),
        Slider("t", "Exponent t", 0.5, 1.5, 0.05, 1.0, help="1: uniform; other values bend the stairs.", half=True),
    )


def at(values: Values) -> Point:
    """The point that the sliders name."""
    return Point(float(values["x"]), float(values["d"]), float(values["qm"]), float(values["t"]))


def show(values: Values) -> Shown:
    """The staircase with its surrogate, the gradient of x along it, and the four gradients in numbers."""
    point = at(values)
    exact, smooth = gradients(point), finite_differences(point)
    stairs = finite_differences(point, held=math.nan)
    inside = abs(point.x) <= point.clip
    info = figures.staircase_info(point)
    said = (
        "x is **inside** the range: its gradient passes, and q_m gets none."
        if inside
        else "x is **clipped**: moving it changes nothing, so its gradient is 0; **q_m** gets the gradient instead."
    )
    facts = {
        "x": f"{point.x:.2f}",
        "d": f"{point.step:g}",
        "qm": f"{point.clip:g}",
        "t": f"{point.exponent:g}",
        "v": tex(clipped_power(point)),
        "r": tex(residue(point)),
        "asked_x": f"{ASKED.x:g}",
        "asked_d": f"{ASKED.step:g}",
        "asked_qm": f"{ASKED.clip:g}",
        "asked": f"{answer().value:.2f}",
    }
    for name in NAMES:
        facts[f"g_{name}"] = tex(getattr(exact, name))
        facts[f"fd_{name}"] = tex(getattr(smooth, name))
    facts["true_x"] = tex(stairs.x)
    rows = [
        {
            "of": NAMES[field.name],
            "straight-through": round(getattr(exact, field.name), 6),
            "finite difference of the surrogate": round(getattr(smooth, field.name), 6),
        }
        for field in dataclasses.fields(Point)
    ]
    return Shown(figures.staircase_figure(info), said, facts, rows)


def answer() -> Number:
    """The gradient of d at the point asked for."""
    return Number(gradients(ASKED).step, 0.02)


LESSON = Lesson(
    fields,
    show,
    answer,
    (See("groups", "See where quantizers sit in {run}", "gallery.resnet8-mnist5k.geta", ("geta",)),),
)
