"""Lesson 9, counting honestly: values, positions, entropy, the file itself; and BOPs against milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.figures import latency as latency_figures
from app.figures.learn import counting as figures
from app.learn.lessons import shipped, texts
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Choice, Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from compression.pack.estimates import Sizes, bitmap_pays_from, sizes
from compression.quant.steps import Survivors, best_steps

LAYER = "layer3.0.conv2"
BYTES, TIME = "bytes", "time"
ASKED_BITS = 4


def fields(values: Values) -> Sequence[Field]:
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
    table = next(layer for layer in shipped.tables().layers if layer.name == LAYER)
    weight: NDArray[np.float32] = shipped.layers()[LAYER].flatten().numpy()
    pruned = round(zeros / 100 * table.size)
    step = float(best_steps(Survivors(table, pruned), (bits,))[0][0])
    most = 2 ** (bits - 1) - 1
    codes = np.sign(weight) * np.clip(np.rint(np.abs(weight) / step), 1, most)
    codes[np.argsort(np.abs(weight), kind="stable")[:pruned]] = 0
    return sizes(codes.astype(np.int32), bits)


@lru_cache(maxsize=1)
def measured() -> dict[str, Any]:
    """The recorded latencies (``assets/lessons/latency.py`` measures them)."""
    found: dict[str, Any] = json.loads((texts.FOLDER / "latency.json").read_text(encoding="utf-8"))
    return found


def show(values: Values) -> Shown:
    """Bars for every way of counting, or milliseconds beside BOPs."""
    zeros, bits = int(values.get("zeros", 20)), int(values.get("bits", 4))
    found = counted(zeros, bits)
    size = found.floats / 32
    variants = measured()["variants"]
    dense, last = variants[0], variants[-1]
    facts = {
        "layer": LAYER,
        "zeros": str(zeros),
        "bits": str(bits),
        "weights": f"{size:,.0f}",
        "values": f"{found.values / size:.2f}",
        "fixed": f"{found.fixed / size:.2f}",
        "bitmap": f"{found.bitmap / size:.2f}",
        "entropy": f"{found.entropy / size:.3f}",
        "coded": f"{found.coded / size:.3f}",
        "claimed": f"{found.floats / found.values:.0f}" if found.values else "∞",
        "real": f"{found.floats / found.coded:.1f}",
        "bops": f"{100 * last['bops'] / dense['bops']:.1f}",
        "ms": f"{100 * last['median'] / dense['median']:.0f}",
        "variant": last["name"],
        "processor": measured()["processor"]["name"],
        "asked_bits": str(ASKED_BITS),
        "asked": f"{answer().value:g}",
    }
    if values.get("count") == TIME:
        times = latency_figures.latency_info(variants, "geta")
        said = (
            f"ResNet-20 for one image in ONNX Runtime, recorded on one thread of an {facts['processor']} with other "
            f"work going on: **{last['name']}** needs {facts['bops']} % of the dense BOPs and **{facts['ms']} %** of "
            "its time."
        )
        return Shown(latency_figures.latency_figure(times), said, facts, times.table)
    info = figures.counting_info(found, bits)
    if found.bitmap >= found.fixed:
        said = f"**These zeros save nothing by themselves:** a bitmap costs 1 bit a weight, and {zeros} % zeros "
        said += f"at {bits} bits save only {bits * zeros / 100:.2f}. "
        said += f"Coding by frequency takes **{facts['coded']}** bits a weight."
    else:
        said = f"With so many zeros a plain bitmap pays: {facts['bitmap']} bits a weight instead of {facts['fixed']}. "
        said += f"Coding by frequency, without a bitmap, takes **{facts['coded']}**."
    return Shown(figures.counting_figure(info), said, facts, info.rows)


def answer() -> Number:
    """The share of zeros from which a bitmap pays, in percent."""
    return Number(100 * bitmap_pays_from(ASKED_BITS), 1.0, "%")


LESSON = Lesson(
    fields, show, answer, (See("export", "See the ledger of {run}", "gallery.resnet8-mnist5k.geta", whole=True),)
)
