"""Prune, then quantize, as a method: remove units by magnitude, fine-tune, then train with fixed whole bit-widths."""

from __future__ import annotations

from compression.asks import REMOVAL
from compression.budget import Budget
from compression.forecast import Forecast, Subject, even_pruning_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.sequential.options import (
    ACTIVATION_BITS,
    FINE_TUNING,
    PRUNING,
    QUANTIZATION,
    RATE,
    WEIGHT_BITS,
    SequentialOptions,
)


class Sequential(Method):
    """Structured pruning by group magnitude, fine-tuning, then quantization-aware training: one after the other."""

    info = Info(
        name="sequential",
        label="Prune, then quantize",
        sentence="**Prune, then quantize** removes the smallest channels and trains, then trains on with rounded "
        "weights: one after the other.",
        family="structured",
        slot=2,
        lesson="channels",
        stages=(
            Stage(PRUNING, "Pruning", 2),
            Stage(FINE_TUNING, "Fine-tuning", 3),
            Stage(QUANTIZATION, "Quantization", 1),
        ),
    )
    asks = (*REMOVAL, WEIGHT_BITS, ACTIVATION_BITS, RATE)
    Config = SequentialOptions

    def check(self, setup: Setup) -> None:
        """Refuse units that this network cannot lose.

        Raises:
            CompressionError: saying how many it can.
        """
        from compression.pruning.target import check_target

        super().check(setup)
        check_target(setup.graph, self.bounded(setup.budget, setup.graph), WEIGHT_BITS, ACTIVATION_BITS)

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """Units spread evenly, whole bits: which units, only the run decides.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        budget = self.bounded(budget, subject.graph)
        return even_pruning_forecast(subject, budget, WEIGHT_BITS, ACTIVATION_BITS)

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place: ⌊sparsity·N⌋ units, the upper end of ``weight_bits`` for every layer.

        Raises:
            CompressionError: the budget cannot be reached. RunFailed: training diverged.
        """
        from compression.methods.sequential.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))


METHOD = SEQUENTIAL = Sequential()
