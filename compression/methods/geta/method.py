"""GETA as a method: its quantizers are attached, and one training run with QASSO removes units and narrows bits."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from compression.asks import BOPS_SAVED, REMOVAL
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject, even_pruning_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.geta.options import (
    ACTIVATION_BITS,
    CHANNEL,
    RATE,
    SCHEDULE,
    WEIGHT_BITS,
    GetaOptions,
)
from compression.methods.geta.rules import PRICED, check_bit_rule
from compression.methods.geta.schedule import COOL_DOWN, JOINT, PROJECTION, WARM_UP

if TYPE_CHECKING:
    import torch
    from torch import nn


class Geta(Method):
    """Removes whole units and learns bit-widths in one run, starting from a trained dense model."""

    info = Info(
        name="geta",
        label="GETA",
        sentence="**GETA** removes whole channels and learns each layer's bit-width while it trains.",
        family="structured",
        slot=0,
        lesson="stages",
        stages=(
            Stage(WARM_UP, "Warm-up", 0),
            Stage(PROJECTION, "Projection", 1),
            Stage(JOINT, "Joint", 2),
            Stage(COOL_DOWN, "Cool-down", 3),
        ),
        paper="arXiv 2502.16638",
        views=("joint",),
    )
    asks = (*REMOVAL, WEIGHT_BITS, ACTIVATION_BITS, SCHEDULE, RATE)
    Config = GetaOptions
    encodings = frozenset({"uniform", "uniform-channel"})

    def check_budget(self, budget: Budget) -> None:
        """Refuse what is wrong in a budget whatever the network.

        Raises:
            CompressionError: naming the ask, the option or the saliency criterion, and what there is.
        """
        super().check_budget(budget)
        activations = ACTIVATION_BITS.value(budget.asks)
        highest = max(WEIGHT_BITS.value(budget.asks)[1], activations[1] if activations else 0)
        SCHEDULE.check_highest(SCHEDULE.value(budget.asks), highest)
        chosen = self.options(budget)
        bits = WEIGHT_BITS.value(budget.asks)
        check_bit_rule(chosen.bit_rule, chosen.mean_bits, bits, chosen.gradient_scale, chosen.order)
        if chosen.bit_rule == PRICED and BOPS_SAVED.value(budget.asks) is not None:
            raise CompressionError(
                f"bops: with bit_rule {PRICED} bits end at the bit operations of mean_bits, whatever is removed: ask "
                "for a share of the units (sparsity) or of the MACs (macs) instead"
            )

    def check(self, setup: Setup) -> None:
        """Refuse a budget that this network or this length of run cannot give.

        Raises:
            CompressionError: naming the field, and the layer or group.
        """
        from compression.methods.geta.preflight import check_reachable

        super().check(setup)
        check_reachable(self.bounded_setup(setup), SCHEDULE.value(setup.budget.asks), self.options(setup.budget).order)

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """Units spread evenly, bits between the bounds: which units and bits, only the run decides.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        options, budget = self.options(budget), self.bounded(budget, subject.graph)
        forecast = even_pruning_forecast(
            subject, budget, WEIGHT_BITS, ACTIVATION_BITS, channel_steps=options.weights == CHANNEL
        )
        if options.bit_rule != PRICED:
            return forecast
        bits = f"{options.mean_bits:g} bits" if options.mean_bits else "the middle of each range"
        return replace(forecast, notes=(*forecast.notes, f"Bit operations end at those of {bits} or just below."))

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Train ``setup.model`` in place within ``setup.budget``.

        Raises:
            CompressionError: the budget cannot be reached (too many units, too few steps, a bound on what is not
            there). RunFailed: training diverged.
        """
        from compression.methods.geta.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Put learnable quantizers at the schedule's starting bits on ``model``, in place; ``cx.QASSO`` then removes
        units and narrows the bits while it trains.

        Raises:
            CompressionError: activations are to be quantized and there are no calibration batches.
        """
        import torch

        from compression.graph import trace
        from compression.methods.geta.run import attach_learnable

        self.check_own_loop(budget)
        activations = ACTIVATION_BITS.value(budget.asks) is not None
        if activations and calibration is None:
            raise CompressionError("the budget quantizes activations: pass calibration=, one batch or several")
        options, batches = self.options(budget), calibration if activations else None
        nonnegative: Collection[str] = ()
        if batches is not None and options.unsigned:
            batches = [batches] if isinstance(batches, torch.Tensor) else list(batches)
            for first in batches[:1]:
                nonnegative = trace(model, first[0] if isinstance(first, (tuple, list)) else first).nonnegative_inputs
        return attach_learnable(model, budget, options, batches, nonnegative)


METHOD = GETA = Geta()
