"""From an allocation to a fine-tuned model: fix masks and steps, refit the norms, train what is left under them."""

from __future__ import annotations

import torch

from compression.quant.allocation import Allocation
from compression.quant.fixed_steps import attach, keep_survivors
from compression.training.loop import make_optimizer, total_steps
from compression.training.measure import curve_images, measure
from compression.training.setup import Compressed, Reporter, Setup, Stage
from compression.training.stage import fresh_statistics, recipe_for, train_stage

STAGES = (
    Stage("allocation", "Allocation", 0),
    Stage("statistics", "Norm statistics", 1),
    Stage("fine-tuning", "Fine-tuning", 3),
)
LEARNING_RATES = {"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3}


def train_allocated(setup: Setup, report: Reporter, allocation: Allocation) -> Compressed:
    """Bring an allocation onto ``setup.model`` (in place) and fine-tune it for the budget's epochs.

    Pruned weights are 0 and get no gradient, so neither decay nor momentum can move them.

    Raises:
        CompressionError: the allocation does not fit the model, or training broke it.
    """
    model, budget = setup.model, setup.budget
    attach(model, allocation)
    for note in allocation.notes:
        report.log(note)
    report.point(measure(setup, model, step=0, epoch=0.0, phase="allocation", limit=curve_images(setup.graph)))
    report.phase("statistics", 0)
    if fresh_statistics(setup, report).norms:
        report.point(measure(setup, model, step=0, epoch=0.0, phase="statistics", limit=curve_images(setup.graph)))
    recipe = recipe_for(setup, report)
    base = budget.lr if budget.lr is not None else LEARNING_RATES[budget.optimizer]
    optimizer = make_optimizer(recipe.prepare_model(model.train()), budget.optimizer, base, budget.weight_decay)
    torch.manual_seed(budget.seed)
    train_stage(setup, report, recipe, optimizer, base, phase="fine-tuning")
    keep_survivors(model)
    return Compressed(model, {"allocation": allocation.to_dict(budget.model, budget.weights)})


def begin(setup: Setup, report: Reporter) -> None:
    """Tell how long the run is, and that the allocation comes first."""
    report.plan(total_steps(setup.data, setup.budget.batch_size, setup.budget.epochs))
    report.phase("allocation", 0)
