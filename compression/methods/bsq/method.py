"""BSQ as a method: train every bit, let planes of bits die, then train at the bits that remain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compression.budget import Budget
from compression.forecast import FLOAT_BYTES, Forecast, LayerForecast, Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.bsq.options import (
    ACTIVATION_BITS,
    BITS,
    FINE_TUNING,
    RATE,
    SPARSIFICATION,
    BsqOptions,
    available_bits,
    planes_by_layer,
    widest,
)


class Bsq(Method):
    """Bit-level sparsity quantization: a group penalty on the bit planes of each layer decides its bits."""

    info = Info(
        name="bsq",
        label="BSQ",
        sentence="**BSQ** trains every bit of the weights and lets whole planes of bits die; those that remain are a "
        "layer's bit-width.",
        family="quantization",
        slot=15,
        lesson="spending",
        stages=(Stage(SPARSIFICATION, "Bit sparsity", 2), Stage(FINE_TUNING, "Fine-tuning", 3)),
        paper="arXiv 2102.10462",
    )
    asks = (BITS, ACTIVATION_BITS, RATE)
    Config = BsqOptions

    def check(self, setup: Setup) -> None:
        """Refuse bounds of layers that are not there, or that need more bits than the average.

        Raises:
            CompressionError: naming the layer, or the average that the bounds need.
        """
        from compression.methods.bsq.run import limits_of

        super().check(setup)
        limits_of(self.bounded_setup(setup))

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """The most that the codes will take; which layer has how many bits is decided in training.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        from compression.counting.cost import cost, inputs_in_float
        from compression.quant.tables import layer_weights

        budget, graph = self.bounded(budget, subject.graph), subject.graph
        average = BITS.value(budget.asks)
        sizes = {name: weight.numel() for name, weight in layer_weights(subject.model).items()}
        limits = planes_by_layer(budget.layers, sizes, average)
        in_float, widths = inputs_in_float(graph), {}
        for layer in graph.layers:
            inputs = ACTIVATION_BITS.layer_limits(budget.asks, budget.layers, layer.name)
            widths[layer.name] = (average, None if inputs is None or layer.name in in_float else inputs[1])
        weights, count = available_bits(sizes, average) / 8, sum(sizes.values())
        total = weights + FLOAT_BYTES * (graph.params - count + len(sizes))
        counted = replace(cost(graph, {}, widths), nominal_bytes=total)
        notes = (
            f"Codes of {count:,} weights take at most {weights:,.0f} bytes, at {average:g} bits each on average, the "
            "sign counted; the file codes them by how often each occurs, which takes less.",
            "BOPs are counted as if every layer had the average bits: which has more, training decides.",
        )
        highest, shapes = widest(limits, sizes, average), {layer.name: tuple(layer.shape) for layer in graph.layers}
        layers = tuple(_layer(name, shapes[name], limits[name].lowest + 1, highest[name]) for name in sizes)
        return Forecast("bound", cost(graph), counted, counted, (total, total), layers=layers, notes=notes)

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place within ``setup.budget``: an average of bits, the sign counted.

        Raises:
            CompressionError: the budget cannot be reached. RunFailed: training diverged.
        """
        from compression.methods.bsq.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """What published numbers count, beside what the asks say."""
        return [
            "Published bits of BSQ leave out the sign: 2.25 bits, published as 14.24 times smaller, are 3.25 bits with "
            "it, about 9.9 times smaller. Bits here count it.",
            *super().caveats(result),
        ]


def _layer(name: str, shape: tuple[int, ...], low: int, high: int) -> LayerForecast:
    """A layer of at least ``low`` and at most ``high`` bits; its step is a float."""
    size = math.prod(shape)
    least, most = (size * bits / 8 + FLOAT_BYTES for bits in (low, high))
    return LayerForecast(name, float(FLOAT_BYTES * size), least, most, shape, shape, (float(low), float(high)))


METHOD = BSQ = Bsq()
