"""UniQ as a method: all layers on 2^b levels around zero, none of them zero, with trained steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject, allocation_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup
from compression.methods.uniq.options import ACTIVATION_BITS, RATE, WEIGHT_BITS, UniqOptions
from compression.training.setup import ALLOCATED_STAGES

if TYPE_CHECKING:
    import torch
    from torch import nn


class Uniq(Method):
    """Quantization-aware training at a fixed bit-width, from one bit on; nothing is removed."""

    info = Info(
        name="uniq",
        label="UniQ",
        sentence="**UniQ** gives every weight one of 2^b evenly spaced values around zero, even at one bit, and trains "
        "their step.",
        family="quantization",
        slot=12,
        lesson="staircase",
        stages=ALLOCATED_STAGES,
        paper="arXiv 2104.00210",
    )
    asks = (WEIGHT_BITS, ACTIVATION_BITS, RATE)
    Config = UniqOptions
    encodings = frozenset({"offset", "offset-channel"})

    def check(self, setup: Setup) -> None:
        """Refuse one bit for an input that may be negative: its grid is symmetric with zero, which takes two.

        Raises:
            CompressionError: naming the layer, and what to set.
        """
        from compression.methods.uniq.start import input_widths

        super().check(setup)
        budget = self.bounded(setup.budget, setup.graph)
        input_widths(setup.model, budget, self._without_sign(budget, setup.graph.nonnegative_inputs))

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """Bits as they will be, and the error of the steps that training begins with.

        Raises:
            CompressionError: bounds of what is not there.
        """
        from compression.methods.uniq.start import allocated

        budget = self.bounded(budget, subject.graph)
        allocation = allocated(subject.model, budget, self.options(budget))
        note = "The error is that of the steps at the beginning: weights and steps are trained from there."
        return allocation_forecast(subject, budget, allocation, ACTIVATION_BITS, notes=(note,))

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Train ``setup.model`` in place with every layer at its bits.

        Raises:
            CompressionError: bits or bounds that cannot be. RunFailed: training diverged.
        """
        from compression.methods.uniq.run import run

        self.check_budget(setup.budget)
        bounded = self.bounded_setup(setup)
        without_sign = self._without_sign(bounded.budget, setup.graph.nonnegative_inputs)
        return run(bounded, report, self.options(setup.budget), without_sign)

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Put quantizers with their first steps on ``model``, in place; any optimizer trains weights and their steps.

        Ranges of inputs stay as they are, unless a :class:`compression.quant.trained_steps.TrainedSteps` of the model
        is created, whose ``step`` updates all steps beside the optimizer.

        Raises:
            CompressionError: activations are to be quantized and there are no calibration batches.
        """
        import torch

        from compression.graph import trace
        from compression.methods.uniq.start import attach
        from compression.quant import activation_quantizers

        self.check_own_loop(budget)
        batches: list[torch.Tensor] | None = None
        nonnegative: Collection[str] = ()
        if ACTIVATION_BITS.value(budget.asks) is not None:
            if calibration is None:
                raise CompressionError("the budget quantizes activations: pass calibration=, one batch or several")
            batches = [calibration] if isinstance(calibration, torch.Tensor) else list(calibration)
            for first in batches[:1]:
                nonnegative = trace(model, first[0] if isinstance(first, (tuple, list)) else first).nonnegative_inputs
        attach(model, budget, self.options(budget), batches, self._without_sign(budget, nonnegative))
        for quantizer in activation_quantizers(model).values():
            quantizer.requires_grad_(False)
        return model

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """What a grid without zero means for runtimes."""
        return [
            "Weights are odd multiples of half a step. ONNX looks them up in a table and computes in floats: the "
            "file is smaller, the arithmetic is not.",
            *super().caveats(result),
        ]

    def _without_sign(self, budget: Budget, nonnegative: Collection[str]) -> Collection[str]:
        return nonnegative if self.options(budget).unsigned else ()


METHOD = UNIQ = Uniq()
