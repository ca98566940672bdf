"""Lesson 9, counting honestly: values, positions, entropy, the file itself; and BOPs against milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.plots import latency as latency_figures
from compression.quant.steps import Survivors, best_steps
from lessons import digits
from lessons.counting import figure
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths.estimates import Sizes, bitmap_pays_from, sizes

LAYER = "layer3.0.conv2"
BYTES, TIME = "bytes", "time"
EXERCISE_BITS = 4


def fields(values: Values) -> Sequence[Choice | Slider]:
    """What is counted; for bytes how many zeros and bits."""
    kinds = {BYTES: "bytes", TIME: "BOPs and milliseconds"}
    first = Choice("count", "What is counted", kinds, BYTES, pills=True)
    if values.get("count", BYTES) == TIME:
        return (first,)
    return (
        first,
        Slider("zeros", "Weights at zero, %", 0, 95, 1, 20, help=f"The smallest weights of {LAYER} go.", half=True),
        Slider("bits", "Bits of the others", 2, 8, 1, 4, help="Steps are the best ones for these weights.", half=True),
    )


@lru_cache(maxsize=512)
def counted(zeros: int, bits: int) -> Sizes:
    """The layer with so many zeros and bits, counted in every way."""
    table = next(layer for layer in digits.tables().layers if layer.name == LAYER)
    weight: NDArray[np.float32] = digits.layers()[LAYER].flatten().numpy()
    pruned = round(zeros / 100 * table.size)
    step = float(best_steps(Survivors(table, pruned), (bits,))[0][0])
    most = 2 ** (bits - 1) - 1
    codes = np.sign(weight) * np.clip(np.rint(np.abs(weight) / step), 1, most)
    codes[np.argsort(np.abs(weight), kind="stable")[:pruned]] = 0
    return sizes(codes.astype(np.int32), bits)


@lru_cache(maxsize=1)
def measured() -> dict[str, Any]:
    """The recorded latencies (``lessons/counting/latency.py`` measures them)."""
    latency: dict[str, Any] = json.loads(Path(__file__).with_name("latency.json").read_text(encoding="utf-8"))
    return latency


def show(values: Values) -> View:
    """Bars for every way of counting, or milliseconds beside BOPs."""
    zeros, bits = int(values.get("zeros", 20)), int(values.get("bits", 4))
    info = figure.counting_info(counted(zeros, bits))
    each, variants = info.bits, measured()["variants"]
    dense, last = variants[0], variants[-1]
    facts = {
        "layer": LAYER,
        "zeros": str(zeros),
        "bits": str(bits),
        "weights": f"{digits.layers()[LAYER].numel():,}",
        "values": f"{each['values']:.2f}",
        "fixed": f"{each['fixed']:.2f}",
        "bitmap": f"{each['bitmap']:.2f}",
        "entropy": f"{each['entropy']:.3f}",
        "coded": f"{each['coded']:.3f}",
        "claimed": f"{32 / each['values']:.0f}" if each["values"] else "∞",
        "real": f"{32 / each['coded']:.1f}",
        "bops": f"{100 * last['bops'] / dense['bops']:.1f}",
        "ms": f"{100 * last['median'] / dense['median']:.0f}",
        "variant": last["name"],
        "exercise_bits": str(EXERCISE_BITS),
        "answer": f"{answer().value:g}",
    }
    if values.get("count") == TIME:
        times = latency_figures.latency_info(variants, "geta")
        caption = "ResNet-20 for one image in ONNX Runtime, recorded on one thread of an "
        caption += f"{measured()['processor']['name']} with other work going on: **{last['name']}** needs "
        caption += f"{facts['bops']} % of the dense BOPs and **{facts['ms']} %** of its time."
        return View(latency_figures.latency_figure(times), caption, facts, times.table)
    if each["bitmap"] >= each["fixed"]:
        caption = f"**These zeros save nothing by themselves:** a bitmap costs 1 bit a weight, and {zeros} % zeros "
        caption += f"at {bits} bits save only {bits * zeros / 100:.2f}. "
        caption += f"Coding by frequency takes **{facts['coded']}** bits a weight."
    else:
        caption = f"With so many zeros a plain bitmap pays: {facts['bitmap']} bits a weight instead of "
        caption += f"{facts['fixed']}. Coding by frequency, without a bitmap, takes **{facts['coded']}**."
    return View(figure.counting_figure(info), caption, facts, info.rows)


def answer() -> Number:
    """The share of zeros from which a bitmap pays, in percent."""
    return Number(100 * bitmap_pays_from(EXERCISE_BITS), 1.0, "%")


LESSON = Lesson(
    fields, show, answer, (Link("export", "See the ledger of {run}", "gallery.resnet8-mnist5k.geta", whole=True),)
)
