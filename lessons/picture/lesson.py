"""Lesson 11, a network that is a picture: the error of compression can be seen, and layers do not err alike."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from compression import data, tasks, zoo
from compression.data.picture import pixels as as_pixels
from compression.quant.laplace import levels_of
from compression.quant.nearest import rounding
from compression.quant.tables import LayerTables
from compression.tasks.picture import Picture
from compression.zoo import weights
from lessons.lesson import Choice, Lesson, Link, Pick, Slider, Values, View
from lessons.numbers import tex
from lessons.picture import figure

MODEL, DATA = "siren", "picture:chelsea"
ALL = "all"
WIDTHS = (2, 3, 4, 5, 6, 7, 8)
ZEROS = tuple(range(0, 100, 10))
EXERCISE_BITS = 3
SCORES = Path(__file__).with_name("scores.json")
FLOAT_BITS = 32


@dataclass(frozen=True, eq=False)
class Drawn:
    """A compressed picture, uint8 [height, width, 3], its PSNR in dB and its mean squared error (colours in 0..1)."""

    pixels: NDArray[np.uint8]
    psnr: float

    @property
    def error(self) -> float:
        """The mean squared error that the PSNR stands for."""
        return 10 ** (-self.psnr / 10)


@lru_cache(maxsize=1)
def network() -> tuple[torch.nn.Module, LayerTables, Picture]:
    """The shipped network, its sorted weights, and the picture; none of them is ever written to."""
    model = zoo.build(MODEL).eval()
    weights.load(model, weights.SHIPPED / "siren-picture-chelsea.safetensors")
    task = tasks.task_of(data.load(DATA))
    assert isinstance(task, Picture)
    return model, LayerTables.prepare(model), task


@lru_cache(maxsize=1)
def behind_encoding() -> torch.nn.Module:
    """The layers behind the encoding, which is the same whatever they become."""
    model = network()[0]
    return torch.nn.Sequential(OrderedDict(hidden=model.hidden, linear=model.linear))  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def encoded() -> torch.Tensor:
    """The coordinates of all pixels as the layers see them."""
    model, _, task = network()
    with torch.no_grad():
        known: torch.Tensor = model.get_submodule("encoding")(task.data.test.images)
    return known


@lru_cache(maxsize=1)
def recorded() -> dict[str, dict[str, list[float]]]:
    """Layer (or ``all``) → zeros in % → PSNR at each of :data:`WIDTHS`, as :mod:`.record` wrote it.

    Seven pictures for one movement of a slider would take half a second.
    """
    scores: dict[str, dict[str, list[float]]] = json.loads(SCORES.read_text(encoding="utf-8"))
    return scores


@lru_cache(maxsize=64)
def drawn(layer: str, bits: int, zeros: int) -> Drawn:
    """The picture with one layer, or all, at ``bits`` and without the smallest ``zeros`` % of its weights."""
    model, tables, task = network()
    changed = {}
    for planned in rounding(tables, {table.name: bits for table in tables.layers}).layers:
        if layer in (ALL, planned.name):
            weight = model.get_parameter(f"{planned.name}.weight").detach()
            most = levels_of(bits)
            # nearest multiple of the step with the least squared error, and 0 for the smallest weights
            rounded = (weight / planned.step).round().clamp(-most, most) * planned.step
            count = round(zeros / 100 * weight.numel())
            rounded.view(-1)[weight.abs().flatten().argsort()[:count]] = 0.0
            changed[f"{planned.name}.weight"] = rounded

    with torch.no_grad():
        answers = functional_call(behind_encoding(), changed, (encoded(),))
    assert task.data.size is not None
    pixels = as_pixels(answers, task.data.size)
    scorer = task.scorer()
    scorer.add(answers, task.data.test.labels)
    return Drawn(pixels.numpy(), scorer.result().score)


@lru_cache(maxsize=1)
def original() -> str:
    """The picture that the network was fitted to, as a figure takes it."""
    return figure.source(network()[2].original().numpy())


def layers() -> list[str]:
    """The layers in the order of the network."""
    return [table.name for table in network()[1].layers]


def nominal_bytes(layer: str, bits: int, zeros: int) -> float:
    """Bytes of the surviving weights at their bit-widths, of everything else in fp32."""
    model, tables, _ = network()
    chosen = sum(table.size for table in tables.layers if layer in (ALL, table.name))
    others = sum(parameter.numel() for parameter in model.parameters()) - chosen
    return (chosen - round(zeros / 100 * chosen)) * bits / 8 + others * FLOAT_BITS / 8


def fields(values: Values) -> Sequence[Choice | Slider]:
    """Which layers, how many bits, and how many zeros."""
    names = {ALL: "all layers", **{name: f"only {name}" for name in layers()}}
    return (
        Choice("layer", "Layers that are compressed", names, ALL),
        Slider("bits", "Bits", WIDTHS[0], WIDTHS[-1], 1, 4, half=True),
        Slider("zeros", "Smallest weights at zero, %", ZEROS[0], ZEROS[-1], 10, 0, half=True),
    )


def show(values: Values) -> View:
    """Both pictures, and how the score falls with the bits."""
    layer, bits, zeros = str(values["layer"]), int(values["bits"]), int(values["zeros"])
    _, _, task = network()
    now, dense = drawn(layer, bits, zeros), recorded()["none"]["0"][0]
    info = figure.PictureInfo(original(), figure.source(now.pixels), WIDTHS, recorded()[layer][str(zeros)], bits, dense)
    size, count = nominal_bytes(layer, bits, zeros), len(task.data.test)
    lost = dense - now.psnr
    seen = "hardly to be seen" if lost < 1 else "visible where the fur is fine" if lost < 5 else "plain to see"
    caption = f"{size / 1000:.1f} kB, {8 * size / count:.2f} bits a pixel: **{lost:.1f} dB lost**, {seen}."
    alone = {name: exercise_score(name) for name in layers()}
    facts = {
        "dense": f"{dense:.1f}",
        "error": tex(now.error),
        "psnr": f"{now.psnr:.1f}",
        "pixels": f"{count:,}",
        "weights": f"{sum(parameter.numel() for parameter in network()[0].parameters()):,}",
        "exercise_bits": str(EXERCISE_BITS),
        "worst": str(answer().value),
        "worst_psnr": f"{min(alone.values()):.1f}",
        "best": max(alone, key=alone.__getitem__),
        "best_psnr": f"{max(alone.values()):.1f}",
    }
    return View(figure.picture_figure(info), caption, facts, info.rows)


def answer() -> Pick:
    """The layer that costs most where it alone is rounded to the bits of the exercise."""
    names = layers()
    return Pick({name: name for name in names}, min(names, key=exercise_score))


def exercise_score(layer: str) -> float:
    """The PSNR with this layer alone at the bits of the exercise."""
    return recorded()[layer]["0"][WIDTHS.index(EXERCISE_BITS)]


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("runs", "See the picture of {run}", "gallery.siren-chelsea.opq-w5-s30"),
        Link("budget", "Compress it yourself", query={"model": MODEL, "data": DATA}),
    ),
)
