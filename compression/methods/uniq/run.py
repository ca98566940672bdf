"""The run of UniQ: first steps, statistics of norms taken anew, then training of weights and steps together."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from compression.methods.uniq.options import ACTIVATION_BITS, RATE, UniqOptions
from compression.methods.uniq.start import attach
from compression.quant import weight_quantizers
from compression.quant.trained_steps import TrainedSteps
from compression.training.allocated import begin, refit
from compression.training.loop import COMPRESSING, base_rate, make_optimizer
from compression.training.preparation import calibration_batches
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section

LAST = "fine-tuning"


def run(setup: Setup, report: Reporter, options: UniqOptions, without_sign: Collection[str]) -> Compressed:
    """Train ``setup.model`` in place at the bits of ``setup.budget``; biases and norms stay fp32.

    ``without_sign``: layers whose input is never negative.

    Raises:
        CompressionError: bits or bounds that cannot be. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    trainer = begin(setup, report, options)
    # 1. Bits, and steps with the least squared error; norms see what rounded weights give
    quantized = ACTIVATION_BITS.value(budget.asks) is not None
    attach(model, budget, options, calibration_batches(setup, report) if quantized else None, without_sign)
    refit(setup, report)
    # 2. The optimizer has the weights; steps are updated beside it
    trainer.recipe.prepare_model(model.train())
    rate, steps = base_rate(budget, COMPRESSING), TrainedSteps(model)
    steps.train(False)
    optimizer = make_optimizer(model, budget.optimizer, rate, budget.weight_decay, undecayed=binary_weights(model))
    steps.train()
    torch.manual_seed(budget.seed)
    algorithm = Steps(steps, optimizer, rate, RATE.value(budget.asks) or rate)
    trainer.train(Section(LAST, optimizer, 0, trainer.total), algorithm)
    return Compressed(model, trainer.facts())


@dataclass(frozen=True)
class Steps(Algorithm):
    """Steps are trained at the optimizer's share of ``base`` of the rate ``lr``."""

    steps: TrainedSteps
    optimizer: torch.optim.Optimizer
    base: float
    lr: float

    def after_step(self, step: int) -> None:
        """Update every Δ."""
        self.steps.step(self.optimizer.param_groups[0]["lr"] / self.base * self.lr)

    def restore(self) -> None:
        """The averaged steps are positive, and bounds of inputs are multiples of them."""
        self.steps.hold()

    def bits_changed(self) -> None:
        """Steps of inputs are trained at the present bit-widths from here on."""
        self.steps.read_bits()


def binary_weights(model: torch.nn.Module) -> list[torch.Tensor]:
    """Weights of one bit: decay would pull them all towards 0, where their signs flip at random."""
    return [
        model.get_submodule(name).get_parameter("parametrizations.weight.original")
        for name, quantizer in weight_quantizers(model).items()
        if quantizer.bits() == 1
    ]
