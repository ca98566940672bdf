"""One training for every bit-width, as a method."""

from __future__ import annotations

from dataclasses import replace

from compression.asks import AMOUNTS
from compression.budget import Budget
from compression.forecast import Forecast, Subject, even_pruning_forecast
from compression.methods.anybits.options import ACTIVATION_BITS, SEARCH, TRAINING, WEIGHT_BITS, AnyBitsOptions
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage


class AnyBits(Method):
    """Nested weights: all bit-widths of a range are trained together, and the best mixtures of them measured."""

    info = Info(
        name="anybits",
        label="Any bits",
        sentence="**Any bits** trains one set of weights for every bit-width: fewer bits are the high bits of the same "
        "weights, and how many are used is chosen after the run.",
        family="quantization",
        slot=16,
        lesson="spending",
        stages=(Stage(TRAINING, "Training at all widths", 3), Stage(SEARCH, "Search", 0)),
        paper="arXiv 2212.05326",
    )
    asks = (WEIGHT_BITS, ACTIVATION_BITS)
    Config = AnyBitsOptions
    encodings = frozenset({"offset"})

    def check(self, setup: Setup) -> None:
        """Refuse bounds of layers that are not there."""
        from compression.asks import check_taking_part
        from compression.quant.attach import quantizable_layers

        super().check(setup)
        check_taking_part(setup.budget.layers, list(quantizable_layers(setup.model)))

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """From the fewest to the most bits in every layer: which are used is chosen after the run.

        Raises:
            CompressionError: bounds of layers that are not there.
        """
        asks = {name: value for name, value in budget.asks.items() if name not in AMOUNTS}
        whole = self.bounded(budget, subject.graph).replace(asks={**asks, "sparsity": 0.0})
        forecast = even_pruning_forecast(subject, whole, WEIGHT_BITS, ACTIVATION_BITS)
        note = "The run's file has the most bits; its precisions with fewer are exported from it."
        return replace(forecast, certainty="bound", notes=(note,))

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Train ``setup.model`` in place for all bit-widths of ``weight_bits``; it has the most of them at the end.

        Raises:
            CompressionError: the budget cannot be. RunFailed: training diverged.
        """
        from compression.methods.anybits.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))


METHOD = AnyBits()
