"""Lesson 6, one threshold to rule the layers: a Laplace density for each layer, and one water level for all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from app.figures.learn import waterline as figures
from app.learn.lessons import shipped
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import tex, tex_percent
from compression.pruning.weights import limits, pruned_counts
from compression.quant import laplace

SMALL, LARGE = 0.1, 0.2  # the scales of the exercise


def fields(values: Values) -> Sequence[Field]:
    """How much goes, and which layer is looked at."""
    explained = "The share of all weights of the network that are set to zero, by the smallest magnitudes."
    return (
        Slider("gone", "Share of weights to prune, %", 5, 95, 1, 60, help=explained),
        shipped.layer_field("layer3.0.conv1"),
    )


@lru_cache(maxsize=128)
def counted(percent: int) -> dict[str, tuple[int, ...]]:
    """Mode → how many weights each layer loses, by the allocation itself."""
    tables = shipped.tables()
    share, equal = percent / 100, np.ones(len(tables.layers))
    allowed = limits(tables, share, {})
    total = allowed.clamp(round(share * tables.size))
    modes = ("laplace", "empirical", "uniform")
    return {mode: tuple(int(k) for k in pruned_counts(tables, total, allowed, mode, equal)) for mode in modes}


def errors(percent: int) -> dict[str, float]:
    """Mode → Σ w² of what it prunes, measured on the weights."""
    layers = shipped.tables().layers
    return {
        mode: sum(float(layer.second[k]) for layer, k in zip(layers, counts, strict=True))
        for mode, counts in counted(percent).items()
    }


def show(values: Values) -> Shown:
    """One layer's magnitudes under the threshold, and the share that each layer loses in three ways."""
    percent, name = int(values["gone"]), str(values["layer"])
    tables = shipped.tables()
    index = next(i for i, layer in enumerate(tables.layers) if layer.name == name)
    layer, counts, lost = tables.layers[index], counted(percent), errors(percent)
    level = laplace.water_level([t.scale for t in tables.layers], [t.size for t in tables.layers], percent / 100)
    exact = layer.threshold(counts["empirical"][index])
    info = figures.waterline_info(tables, index, level, exact, counts)
    worse = {mode: 100 * (lost[mode] / lost["empirical"] - 1) for mode in ("laplace", "uniform")}
    said = (
        f"Against the exact optimum, the Laplace threshold costs **{worse['laplace']:.1f} %** more error, pruning "
        f"every layer alike **{worse['uniform']:.1f} %** more."
    )
    facts = {
        "percent": str(percent),
        "layer": name,
        "scale": tex(layer.scale),
        "level": tex(level),
        "share": tex_percent(-float(np.expm1(-level / layer.scale))),
        "real": tex_percent(counts["empirical"][index] / layer.size),
        "small": f"{SMALL:g}",
        "large": f"{LARGE:g}",
        "asked": f"{answer().value:.1f}",
    }
    return Shown(figures.waterline_figure(info), said, facts, info.rows)


def answer() -> Number:
    """The share that the wider layer loses when one threshold takes half of the narrower one."""
    level = SMALL * float(laplace.threshold(0.5))
    return Number(-100 * float(np.expm1(-level / LARGE)), 1.0, "%")


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        See("compare", "See it in {run}", "gallery.resnet8-mnist5k.opq-03", ("opq",)),
        See("budget", "Allocate on your model", query={"method": "opq"}),
    ),
)
