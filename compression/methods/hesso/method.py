"""HESSO as a method: what pruning alone gives, seen apart from what bits give."""

from __future__ import annotations

from compression.asks import REMOVAL
from compression.budget import Budget
from compression.forecast import Forecast, Subject, even_pruning_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.hesso.options import (
    ACTIVATION_BITS,
    FADING,
    FINE_TUNING,
    ROUNDING,
    WARM_UP,
    WEIGHT_BITS,
    HessoOptions,
)


class Hesso(Method):
    """Structured pruning in training, by saliency, with units that fade to zero; then nearest rounding."""

    info = Info(
        name="hesso",
        label="HESSO",
        sentence="**HESSO** lets the channels that matter least fade to zero while the network trains, and rounds the "
        "weights afterwards.",
        family="structured",
        slot=13,
        lesson="stages",
        stages=(
            Stage(WARM_UP, "Warm-up", 0),
            Stage(FADING, "Fading", 2),
            Stage(FINE_TUNING, "Fine-tuning", 3),
            Stage(ROUNDING, "Rounding", 1),
        ),
        paper="arXiv 2409.09085",
    )
    asks = (*REMOVAL, WEIGHT_BITS, ACTIVATION_BITS)
    Config = HessoOptions

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
        from compression.methods.hesso.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))


METHOD = Hesso()
