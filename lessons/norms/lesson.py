"""Lesson 14, one number for all layers: steps in proportion to norms, and the allocation that gives the same steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from compression.quant.tables import LayerTable
from lessons import digits
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths import norms
from lessons.norms import figure
from lessons.numbers import tex

SMALLEST = 512  # weights of a layer that takes part
ENERGY, EQUAL = "energy", "equal"
TIMES = 4  # in the exercise: how many times as many weights


def fields(values: Values) -> Sequence[Choice | Slider]:
    """The bits that may be spent, and what a layer's error counts."""
    explained = "What may be spent: bits a weight once it is entropy-coded, averaged over the layers."
    counts = "Σ ω·error is what the allocation makes small: ω is 1/‖w‖² for every layer, or 1."
    options = {ENERGY: "relative to ‖w‖²", EQUAL: "as it is"}
    return (
        Slider("average", "Average coded bits", 2.0, 5.0, 0.25, 3.0, help=explained, half=True, format="%.2f"),
        Choice("omega", "A layer's error counts", options, ENERGY, help=counts, half=True, pills=True),
    )


@lru_cache(maxsize=1)
def layers() -> tuple[LayerTable, ...]:
    """The layers that take part."""
    return tuple(layer for layer in digits.tables().layers if layer.size >= SMALLEST)


@lru_cache(maxsize=1)
def choices() -> norms.Curves:
    """What each step of each layer comes to."""
    return norms.curves(layers())


@lru_cache(maxsize=32)
def solved(average: float) -> tuple[float, Mapping[str, norms.Steps]]:
    """k, and the steps by it and by the allocation with either ω, all at this average of coded bits."""
    budget = average * sum(layer.size for layer in layers())
    k, by_norm = norms.by_norm(layers(), budget)
    importance = {ENERGY: 1 / norms.norms(layers()) ** 2, EQUAL: np.ones(len(layers()))}
    chosen = {name: choices().cheapest(budget, omega) for name, omega in importance.items()}
    return k, {"norm": by_norm, **{name: norms.at(layers(), steps) for name, steps in chosen.items()}}


def show(values: Values) -> View:
    """Steps over norms, and coded bits over sizes: by one number, and by the allocation."""
    average, omega = float(values["average"]), str(values["omega"])
    k, ways = solved(average)
    lengths, sizes = norms.norms(layers()), [layer.size for layer in layers()]
    ratio = ways[omega].steps / ways["norm"].steps
    spread = ways[omega].steps.max() / ways[omega].steps.min()
    if omega == ENERGY:
        caption = f"The allocation knows nothing of k, yet its steps are **{ratio.min():.2f} to {ratio.max():.2f}** "
        caption += "times ‖w‖/k: OPQ with relative errors and coded bits **is** RIQ."
    else:
        caption = "Counted as they are, errors ask for nearly the **same step everywhere** (largest over smallest: "
        caption += f"{spread:.2f}), whatever the norm: layers with small weights get fewer bits."
    info = figure.NormsInfo([layer.name for layer in layers()], sizes, lengths, ways["norm"], ways[omega], k)
    relative = {name: float((way.errors / lengths**2).sum()) for name, way in ways.items()}
    plain = {name: float(way.errors.sum()) for name, way in ways.items()}
    facts = {
        "average": f"{average:g}",
        "k": tex(k),
        "relative_norm": tex(relative["norm"]),
        "relative_energy": tex(relative[ENERGY]),
        "relative_equal": tex(relative[EQUAL]),
        "plain_norm": tex(plain["norm"]),
        "plain_equal": tex(plain[EQUAL]),
        "smallest": str(SMALLEST),
        "times": str(TIMES),
        "root": f"{math.sqrt(TIMES):g}",
        "answer": f"{answer().value:g}",
    }
    return View(figure.norms_figure(info), caption, facts, info.rows)


def answer() -> Number:
    """log2 of √n: how many bits a weight fewer the larger layer gets."""
    return Number(math.log2(math.sqrt(TIMES)), 0.05, "bits")


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("compare", "See the bits of {run}", "gallery.resnet20-cifar10jpeg.riq-b2", ("riq",)),
        Link("budget", "Choose coded bits for your model", query={"method": "riq"}),
    ),
)
