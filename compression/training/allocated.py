"""From an allocation to a fine-tuned model: fix masks and steps, refit the norms, train the survivors under them."""

from __future__ import annotations

from typing import Any

import torch

from compression.quant.allocation import Allocation
from compression.quant.fixed_steps import attach, keep_survivors
from compression.training.loop import FINE_TUNING, base_rate, make_optimizer
from compression.training.measure import curve_images, report_point
from compression.training.options import TrainingOptions
from compression.training.preparation import fresh_statistics
from compression.training.resume import Stateful
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def begin(setup: Setup, report: Reporter, options: TrainingOptions) -> Trainer:
    """The trainer of the dense network; reports how long the run is, and that the allocation comes first."""
    trainer = Trainer(setup, report, options)
    report.plan(trainer.total)
    report.phase("allocation", 0)
    return trainer


def train_allocated(trainer: Trainer, allocation: Allocation) -> Compressed:
    """Bring an allocation onto the trainer's model (in place) and fine-tune it for the budget's epochs.

    Pruned weights are 0 and get no gradient, so neither decay nor momentum can move them.

    Raises:
        CompressionError: the allocation does not fit the model, or training broke it.
    """
    model, budget = trainer.setup.model, trainer.setup.budget
    attach(model, allocation)
    for note in allocation.notes:
        trainer.report.log(note)
    fine_tune(trainer)
    keep_survivors(model)
    return Compressed(model, {"allocation": allocation.to_dict(budget.model, budget.weights), **trainer.facts()})


def refit(setup: Setup, report: Reporter) -> None:
    """Measure a model that carries its quantizers, refit its batch norms, and measure again if it has any."""
    at: dict[str, Any] = {"step": 0, "epoch": 0.0, "limit": curve_images(setup.graph)}
    report_point(setup, report, setup.model, **at, phase="allocation")
    report.phase("statistics", 0)
    if fresh_statistics(setup, report).norms:
        report_point(setup, report, setup.model, **at, phase="statistics")


def fine_tune(trainer: Trainer, algorithm: Algorithm | None = None, **parts: Stateful) -> None:
    """Measure the trainer's model, which carries fixed quantizers, refit its norms, and train it under them.

    ``algorithm``: what the method does within a step; ``parts``: what of it belongs in checkpoints.

    Raises:
        RunFailed: training diverged.
    """
    model, budget = trainer.setup.model, trainer.setup.budget
    refit(trainer.setup, trainer.report)
    trainer.recipe.prepare_model(model.train())
    optimizer = make_optimizer(model, budget.optimizer, base_rate(budget, FINE_TUNING), budget.weight_decay)
    torch.manual_seed(budget.seed)
    trainer.train(Section("fine-tuning", optimizer, 0, trainer.total, parts=parts), algorithm)
