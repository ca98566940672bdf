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
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Section, Trainer


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
    setup, report = trainer.setup, trainer.report
    model, budget = setup.model, setup.budget
    attach(model, allocation)
    for note in allocation.notes:
        report.log(note)
    at: dict[str, Any] = {"step": 0, "epoch": 0.0, "limit": curve_images(setup.graph)}
    report_point(setup, report, model, **at, phase="allocation")
    report.phase("statistics", 0)
    if fresh_statistics(setup, report).norms:
        report_point(setup, report, model, **at, phase="statistics")
    rate = base_rate(budget, FINE_TUNING)
    trainer.recipe.prepare_model(model.train())
    optimizer = make_optimizer(model, budget.optimizer, rate, budget.weight_decay)
    torch.manual_seed(budget.seed)
    trainer.train(Section("fine-tuning", optimizer, 0, trainer.total))
    keep_survivors(model)
    return Compressed(model, {"allocation": allocation.to_dict(budget.model, budget.weights), **trainer.facts()})
