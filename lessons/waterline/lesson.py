"""Lesson 6, one threshold to rule the layers: a Laplace density for each layer, and one water level for all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from compression.pruning.weights import limits, pruned_counts
from compression.quant import laplace
from lessons import digits
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.numbers import tex
from lessons.waterline import figure

NARROW, WIDE = 0.1, 0.2  # the scales of the exercise


def fields(values: Values) -> Sequence[Choice | Slider]:
    """The share to prune, and the layer looked at."""
    explained = "The share of all weights of the network that are set to zero, by the smallest magnitudes."
    return (
        Slider("gone", "Share of weights to prune, %", 5, 95, 1, 60, help=explained),
        digits.layer_field("layer3.0.conv1"),
    )


@lru_cache(maxsize=128)
def counted(percent: int) -> dict[str, tuple[int, ...]]:
    """Mode → how many weights each layer loses, by the allocation itself."""
    tables = digits.tables()
    share, equal = percent / 100, np.ones(len(tables.layers))
    allowed = limits(tables, share, {})
    total = allowed.clamp(round(share * tables.size))
    return {mode: tuple(map(int, pruned_counts(tables, total, allowed, mode, equal))) for mode in figure.MODES}


def errors(percent: int) -> dict[str, float]:
    """Mode → Σ w² of what it prunes, measured on the weights."""
    layers = digits.tables().layers
    return {
        mode: sum(float(layer.second[k]) for layer, k in zip(layers, counts, strict=True))
        for mode, counts in counted(percent).items()
    }


def show(values: Values) -> View:
    """One layer's magnitudes under the threshold, and the share that each layer loses in three ways."""
    percent, name = int(values["gone"]), str(values["layer"])
    tables, counts, lost = digits.tables(), counted(percent), errors(percent)
    index = [layer.name for layer in tables.layers].index(name)
    layer, sizes = tables.layers[index], [layer.size for layer in tables.layers]
    level = laplace.water_level([layer.scale for layer in tables.layers], sizes, percent / 100)
    exact = layer.threshold(counts["empirical"][index])
    shares = {mode: [k / n for k, n in zip(ks, sizes, strict=True)] for mode, ks in counts.items()}
    info = figure.WaterlineInfo(tables, layer, level, exact, shares)
    worse = {mode: 100 * (lost[mode] / lost["empirical"] - 1) for mode in ("laplace", "uniform")}
    caption = (
        f"Against the exact optimum, the Laplace threshold costs **{worse['laplace']:.1f} %** more error, pruning "
    )
    caption += f"every layer alike **{worse['uniform']:.1f} %** more."
    facts = {
        "percent": str(percent),
        "layer": name,
        "scale": tex(layer.scale),
        "level": tex(level),
        "share": rf"{-100 * np.expm1(-level / layer.scale):.1f}\,\%",
        "real": rf"{100 * shares['empirical'][index]:.1f}\,\%",
        "narrow": f"{NARROW:g}",
        "wide": f"{WIDE:g}",
        "answer": f"{answer().value:.1f}",
    }
    return View(figure.waterline_figure(info), caption, facts, info.rows)


def answer() -> Number:
    """The share that the wider layer loses when one threshold takes half of the narrower one."""
    level = NARROW * float(laplace.threshold(0.5))
    return Number(-100 * float(np.expm1(-level / WIDE)), 1.0, "%")


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("compare", "See it in {run}", "gallery.resnet8-mnist5k.opq-03", ("opq",)),
        Link("budget", "Allocate on your model", query={"method": "opq"}),
    ),
)
