"""Lesson 13, low rank: a layer as two thinner ones, with the error of its weights and of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from torch import nn

from compression.posttraining.low_rank import Factorization, break_even, factorize, largest_saving
from compression.posttraining.rows import matrix
from lessons import digits
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.rank import figure
from lessons.rank.figure import LABELS, PLAIN, WHITENED

EXERCISE_LAYER, EXERCISE_ERROR = "layer2.0.conv1", 5
BYTES = 4  # of a weight in fp32


def fields(values: Values) -> Sequence[Choice | Slider]:
    """Layer, way, and rank up to the full one of the layer."""
    full = len(ways(str(values.get("layer", EXERCISE_LAYER)))[PLAIN].singular)
    best = "Plain: the least error of the weights. Whitened: the least error of the outputs."
    rank = "So many singular components stay; the rest are dropped."
    return (
        digits.layer_field(EXERCISE_LAYER),
        Choice("way", "SVD", {name: name for name in LABELS}, PLAIN, best, half=True, pills=True),
        Slider("rank", "Rank r", 1, full, 1, 5, help=rank, half=True),
    )


@lru_cache(maxsize=16)
def ways(layer: str) -> Mapping[str, Factorization]:
    """A layer at every rank, plain and whitened."""
    weight = matrix(digits.network().get_submodule(layer), digits.layers()[layer])[0].double()
    gram = digits.inputs(layer).gram[0]
    return {name: factorize(weight, gram, whitened=name == WHITENED) for name in LABELS}


def factored_weights(layer: str, rank: int) -> int:
    """How many weights the two factors have."""
    return sum(factor.numel() for factor in ways(layer)[PLAIN].factors(rank))


def show(values: Values) -> View:
    """One layer at one rank."""
    layer, way, rank = str(values["layer"]), str(values["way"]), int(values["rank"])
    both = ways(layer)
    errors = {name: 100 * float(each.outputs[rank]) for name, each in both.items()}
    size, saved = both[way].weight.shape, _saved(layer, rank)
    caption = (
        f"At rank {rank} the outputs are off by **{errors[PLAIN]:.3g} %** with plain SVD, **{errors[WHITENED]:.3g} %** "
        f"with whitened SVD, for **{abs(saved):.0f} % {'fewer' if saved > 0 else 'more'}** weights and MACs. "
        f"The grey bars add up to the error of the {'outputs' if way == WHITENED else 'weights'}."
    )
    facts = {
        **_modules(layer, rank),
        **_costs(layer, rank),
        "images": str(digits.IMAGES),
        "rank": str(rank),
        "weight_error": f"{100 * float(both[way].weights[rank]):.3g}",
        "output_error": f"{errors[way]:.3g}",
        "largest": str(largest_saving(*size)),
        **_exercise(),
    }
    return View(figure.rank_figure(both, way, rank, break_even(*size)), caption, facts, figure.rows(both, way))


def _modules(layer: str, rank: int) -> Mapping[str, str]:
    """The layer's size, and what the two factors are."""
    module = digits.network().get_submodule(layer)
    outputs, inputs = ways(layer)[PLAIN].weight.shape
    first, second = f"linear layer to {rank} values", f"one to {outputs}"
    if isinstance(module, nn.Conv2d):
        first = f"{'×'.join(map(str, module.kernel_size))} convolution to {rank} channels"
        second = f"1×1 to {outputs}"
    return {"outputs": str(outputs), "inputs": str(inputs), "first": first, "second": second}


def _costs(layer: str, rank: int) -> Mapping[str, str]:
    """Weights, bytes and MACs of the layer and of its factors, which run at as many places."""
    whole, factored, macs = digits.layers()[layer].numel(), factored_weights(layer, rank), digits.macs()[layer]
    costs = {
        "whole": whole,
        "factored": factored,
        "whole_bytes": BYTES * whole,
        "factored_bytes": BYTES * factored,
        "whole_macs": macs,
        "factored_macs": macs * factored // whole,
    }
    return {name: f"{cost:,}" for name, cost in costs.items()}


def least_rank(way: str) -> int:
    """The smallest rank of the exercise's layer that leaves no more than the allowed output error."""
    return int((100 * ways(EXERCISE_LAYER)[way].outputs > EXERCISE_ERROR).sum())


def _saved(layer: str, rank: int) -> float:
    """The share of weights and of MACs that a rank saves, in %."""
    return 100 * (1 - factored_weights(layer, rank) / digits.layers()[layer].numel())


def _exercise() -> Mapping[str, str]:
    facts = {"exercise_layer": EXERCISE_LAYER, "exercise_error": str(EXERCISE_ERROR), "answer": f"{answer().value:.0f}"}
    for name in LABELS:
        rank = least_rank(name)
        facts |= {f"rank_{name}": str(rank), f"saved_{name}": f"{_saved(EXERCISE_LAYER, rank):.0f}"}
    return facts


def answer() -> Number:
    """What share of its weights whitened SVD saves within the allowed error, in %."""
    return Number(round(_saved(EXERCISE_LAYER, least_rank(WHITENED))), 1, "%")


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("compare", "See what {run} saved instead", "gallery.resnet8-mnist5k.geta"),
        Link("model", "See the layers of your model"),
    ),
)
