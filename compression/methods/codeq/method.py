"""CoDeQ as a method: each layer's zeros by a threshold that the loss moves, so many zeros in all as the budget asks."""

from __future__ import annotations

from dataclasses import replace

from compression.budget import Budget
from compression.forecast import Forecast, Subject, allocation_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.codeq.options import FINE_TUNING, LEARNING, RATE, SPARSITY, WEIGHT_BITS, CodeqOptions

NOTE = "Counted for the weights that are smallest now: which are zero in the end, the run learns."


class Codeq(Method):
    """Single weights at zero and equal bits, in one training: thresholds are parameters of the network."""

    info = Info(
        name="codeq",
        label="CoDeQ",
        sentence="**CoDeQ** learns for each layer below which magnitude weights are zero, while it trains with the "
        "others rounded.",
        family="unstructured",
        slot=17,
        lesson="waterline",
        stages=(Stage(LEARNING, "Thresholds are learned", 2), Stage(FINE_TUNING, "Fine-tuning", 3)),
        paper="arXiv 2512.12981",
    )
    asks = (SPARSITY, WEIGHT_BITS, RATE)
    Config = CodeqOptions
    encodings = frozenset({"offset"})

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Train ``setup.model`` in place until round(sparsity·N) weights are zero and every layer has ``bits``.

        Raises:
            CompressionError: bounds that cannot be met. RunFailed: training diverged.
        """
        from compression.methods.codeq.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """What the weights that are smallest before training come to: which are zero in the end, the run learns.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        from compression.pruning.weights import smallest_weights

        self.check_budget(budget)
        budget, tables = self.bounded(budget, subject.graph), subject.tables()
        widths = WEIGHT_BITS.widths(budget.asks, budget.layers, [table.name for table in tables.layers])
        allocation = smallest_weights(tables, SPARSITY.value(budget.asks), budget.layers, widths, "network")
        forecast = allocation_forecast(subject, budget, allocation, notes=(NOTE,))
        return replace(forecast, certainty="bound")


METHOD = Codeq()
