"""The run of quantization-aware pruning: one training under quantizers, weights set to zero in rounds on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from compression.methods.qap.options import ACTIVATION_BITS, RATE, SPARSITY, WEIGHT_BITS, Plan, QapOptions
from compression.pruning.masks import WeightMasks
from compression.quant.integers import integer_weights, weight_quantizers
from compression.quant.tables import LayerTables, layer_weights
from compression.training.fixed_widths import FixedWidths, Widths, attach_nearest, fit_nearest
from compression.training.loop import check_finite
from compression.training.resume import Stateful
from compression.training.rewind import StartingPoint
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def run(setup: Setup, report: Reporter, options: QapOptions) -> Compressed:
    """Compress ``setup.model`` in place within ``setup.budget``.

    Raises:
        CompressionError: bounds that cannot be met. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    widths = Widths.read(model, budget, WEIGHT_BITS, ACTIVATION_BITS)
    trainer, layers = Trainer(setup, report, options), list(layer_weights(model))
    plan = Plan.from_share(trainer.total, options.pruning, options.rounds)
    report.plan(trainer.total, stages=plan.starts())
    if plan.rounds < options.rounds:
        report.log(f"a short run: rounds {plan.rounds} instead of {options.rounds}")
    bits = attach_nearest(
        setup,
        report,
        widths,
        ranges=options.ranges,
        unsigned=options.unsigned,
        free_threshold=options.free_threshold,
    )
    trainer.recipe.prepare_model(model)
    torch.manual_seed(budget.seed)
    masks = WeightMasks(model, layers)
    training = FixedWidths.begin(setup, bits, RATE.value(budget.asks), masks.hold)
    start = StartingPoint(model) if options.rewind else None
    phases = {first: stage for stage, first in plan.starts().items()}
    parts: dict[str, Stateful] = {"masks": masks} if start is None else {"masks": masks, "start": start}
    section = Section("training", training.optimizer, 0, plan.total, phases=phases, parts=parts)
    trainer.train(section, PruningRounds(setup, options, plan, masks, training, start))
    facts = _zeros(model, masks)
    report.log("{masked} of {weights} weights are masked; {zeros} are zero once rounded".format(**facts))
    return Compressed(model, {**facts, "rounds": plan.rounds, "stages": plan.starts(), **trainer.facts()})


@dataclass
class PruningRounds(Algorithm):
    """Ranges are trained at whole bit-widths; in every round more of the smallest weights are set to zero for good."""

    setup: Setup
    options: QapOptions
    plan: Plan
    masks: WeightMasks
    training: FixedWidths
    start: StartingPoint | None
    message: str = field(default="", init=False)

    def before_step(self, step: int) -> None:
        """Carry out the round that is due; what survives goes back to the start, if the options say so."""
        number, budget = self.plan.round_at(step), self.setup.budget
        self.message = ""
        if not number:
            return
        check_finite(self.setup.model)
        # 1. The smallest weights of the moment, those masked before (which are 0) among them
        sparsity = SPARSITY.value(budget.asks)
        notes = self.masks.prune(number, self.plan.rounds, sparsity, budget.layers, self.options.scope)
        count = sum(self.masks.masked.values())
        self.message = f"round {number} of {self.plan.rounds}: {count} weights are masked"
        if number == self.plan.rounds:
            self.message = ". ".join((self.message, *notes))
        model, present = self.setup.model, weight_quantizers(self.setup.model)
        widths = {name: round(quantizer.bits()) for name, quantizer in present.items()}
        # 2. Lottery ticket: weights, norms and ranges of the start, no momentum
        if self.start is not None:
            self.start.restore()
            self.masks.hold()
            self.training.optimizer.state.clear()
        # 3. Survivors are the largest weights, most of which a range of all weights would clip: fit them again
        fit_nearest(model, LayerTables.prepare(self.masks.weights), widths)
        self.training.bits.hold()

    def after_backward(self, step: int) -> None:
        """The gradient of λ Σ|w|; there is none where a weight is 0."""
        if self.options.l1 > 0:
            weights = [weight for weight in self.masks.parameters.values() if weight.grad is not None]
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            signs = [weight.detach().sign() for weight in weights]
            torch._foreach_add_(gradients, signs, alpha=self.options.l1)

    def after_step(self, step: int) -> None:
        """Train the clipping bounds, and hold masked weights at zero."""
        self.training.after_step(step)

    def report(self, step: int, report: Reporter) -> None:
        """How many weights are masked after a round."""
        if self.message:
            report.log(self.message)

    def restore(self) -> None:
        """The averaged clipping bounds get the steps of their bit-widths."""
        self.training.restore()

    def bits_changed(self) -> None:
        """Ranges are trained, and fitted after a round, at the present bit-widths from here on."""
        self.training.bits_changed()


def _zeros(model: torch.nn.Module, masks: WeightMasks) -> dict[str, Any]:
    """How many weights are masked, and how many are zero once they are rounded, of how many."""
    rounded = integer_weights(model)
    return {
        "weights": sum(weight.numel() for weight in masks.weights.values()),
        "masked": sum(masks.masked.values()),
        "zeros": sum(int((rounded[name].weight() == 0).sum()) for name in masks.weights),
    }
