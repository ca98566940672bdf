"""Lesson 11, a network that is a picture: the error of compression can be seen, and layers do not err alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from compression import data, tasks, zoo
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
EXERCISE_BITS = 3
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


@lru_cache(maxsize=256)
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

    class Changed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = functional_call(model, changed, (x,))
            return answer

    pixels = task.picture(Changed())
    scorer = task.scorer()
    scorer.add(pixels.reshape(-1, 3).float() / 127.5 - 1, task.data.test.labels)
    return Drawn(pixels.numpy(), scorer.result().score)


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
        Slider("zeros", "Smallest weights at zero, %", 0, 90, 10, 0, half=True),
    )


def show(values: Values) -> View:
    """Both pictures, and how the score falls with the bits."""
    layer, bits, zeros = str(values["layer"]), int(values["bits"]), int(values["zeros"])
    _, _, task = network()
    now, whole = drawn(layer, bits, zeros), drawn("", WIDTHS[-1], 0)
    curve = [drawn(layer, width, zeros).psnr for width in WIDTHS]
    info = figure.PictureInfo(task.original().numpy(), now.pixels, WIDTHS, tuple(curve), bits, whole.psnr)
    size, count = nominal_bytes(layer, bits, zeros), len(task.data.test)
    lost = whole.psnr - now.psnr
    seen = "hardly to be seen" if lost < 1 else "visible where the fur is fine" if lost < 5 else "plain to see"
    caption = f"{size / 1000:.1f} kB, {8 * size / count:.2f} bits a pixel: **{lost:.1f} dB lost**, {seen}."
    alone = {name: drawn(name, EXERCISE_BITS, 0).psnr for name in layers()}
    facts = {
        "dense": f"{whole.psnr:.1f}",
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
    worst = min(names, key=lambda name: drawn(name, EXERCISE_BITS, 0).psnr)
    return Pick({name: name for name in names}, worst)


LESSON = Lesson(
    fields,
    show,
    answer,
    (Link("budget", "Compress the picture yourself", query={"model": MODEL, "data": DATA}),),
)
