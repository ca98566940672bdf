"""Lesson 12, path following and GPTQ: weights that make good for those before them, on a real layer and real digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from compression.posttraining.rows import matrix
from compression.quant.quantizer import levels
from lessons import digits
from lessons.following import figure
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths.paths import NEAREST, ORTHOGONAL, PLAIN, Path, paths

EXERCISE_LAYER, EXERCISE_BITS = "layer2.0.conv1", 3


def fields(values: Values) -> Sequence[Choice | Slider]:
    """Layer, bits, and which of its neurons is drawn."""
    layer = str(values.get("layer", EXERCISE_LAYER))
    neurons = len(digits.layers()[layer])
    fewer = "With fewer bits there is more to make good for."
    one = "A neuron is one output channel: its weights are rounded one after the other."
    return (
        digits.layer_field(EXERCISE_LAYER),
        Slider("bits", "Bits b", 2, 8, 1, 3, help=fewer, half=True),
        Slider("neuron", "Neuron", 1, neurons, 1, 1, help=one, half=True),
    )


@lru_cache(maxsize=64)
def ways(layer: str, bits: int, neuron: int) -> Mapping[str, Path]:
    """The three ways of rounding; neurons are counted from 1."""
    module = digits.network().get_submodule(layer)
    weights = matrix(module, digits.layers()[layer])[0].double()
    return paths(weights, digits.inputs(layer).gram[0], round(levels(bits)), neuron - 1)


def show(values: Values) -> View:
    """The output error of one neuron after each weight, and the way it takes."""
    layer, bits, neuron = str(values["layer"]), int(values["bits"]), int(values["neuron"])
    now = ways(layer, bits, neuron)
    ends = {name: 100 * float(path.share[-1]) for name, path in now.items()}
    best = figure.LABELS[min(ends, key=ends.__getitem__)]
    caption = (
        f"The outputs of neuron {neuron} are off by **{ends[NEAREST]:.3g} %** with nearest rounding, "
        f"{ends[PLAIN]:.3g} % with path following, {ends[ORTHOGONAL]:.3g} % with GPTQ: the least with **{best}**. "
        "Errors of nearest rounding add up; the others turn back to the cross."
    )
    facts = {
        "bits": str(bits),
        "d": str(len(now[NEAREST].values)),
        "rows": f"{digits.inputs(layer).count:,}",
        "images": str(digits.IMAGES),
        **{f"layer_{name}": f"{100 * path.layer:.3g}" for name, path in now.items()},
        "exercise_layer": EXERCISE_LAYER,
        "exercise_bits": str(EXERCISE_BITS),
        "answer": f"{answer().value:.1f}",
    }
    return View(figure.following_figure(now), caption, facts, figure.rows(now))


def answer() -> Number:
    """How many times larger the layer's output error is with nearest rounding than with GPTQ, in the exercise."""
    both = ways(EXERCISE_LAYER, EXERCISE_BITS, 1)
    return Number(round(both[NEAREST].layer / both[ORTHOGONAL].layer, 1), 0.3, "times")


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("compare", "See the bits of {run}", "gallery.resnet8-mnist5k.ptq", ("gptq", "spfq", "adaround", "ptq")),
        Link("budget", "Round your model so", query={"method": "gptq"}),
    ),
)
