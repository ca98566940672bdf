"""Quantization-aware pruning as a method: unstructured pruning and quantization, jointly."""

from __future__ import annotations

from dataclasses import replace

from compression.budget import Budget
from compression.forecast import Forecast, Subject, allocation_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.qap.options import (
    ACTIVATION_BITS,
    FINE_TUNING,
    PRUNING,
    RATE,
    SPARSITY,
    WEIGHT_BITS,
    QapOptions,
)

FORECAST_NOTE = (
    "Counted as if every layer lost the same share: the run chooses anew in every round, and more weights may round to "
    "zero."
)


class Qap(Method):
    """Iterative magnitude pruning of single weights with the quantizers already in place."""

    info = Info(
        name="qap",
        label="Quantization-aware pruning",
        sentence="**Quantization-aware pruning** trains with rounded weights and sets the smallest ones to zero, some "
        "more in every round.",
        family="unstructured",
        slot=14,
        lesson="staircase",
        stages=(Stage(PRUNING, "Pruning", 2), Stage(FINE_TUNING, "Fine-tuning", 3)),
        paper="arXiv 2102.11289",
    )
    asks = (SPARSITY, WEIGHT_BITS, ACTIVATION_BITS, RATE)
    Config = QapOptions

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """Zeros spread evenly over the layers, which takes the most positions: which weights go, only the run decides.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        from compression.pruning.weights import smallest_weights

        self.check_budget(budget)
        budget, tables = self.bounded(budget, subject.graph), subject.tables()
        widths = WEIGHT_BITS.widths(budget.asks, budget.layers, [table.name for table in tables.layers])
        allocation = smallest_weights(tables, SPARSITY.value(budget.asks), budget.layers, widths, "layer")
        forecast = allocation_forecast(subject, budget, allocation, ACTIVATION_BITS, notes=(FORECAST_NOTE,))
        return replace(forecast, certainty="even")

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place: round(sparsity·N) weights to zero, ``bits`` for every layer.

        Raises:
            CompressionError: bounds that cannot be met. RunFailed: training diverged.
        """
        from compression.methods.qap.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))


METHOD = Qap()
