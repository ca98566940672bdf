"""From an allocation to a fine-tuned model: fix masks and steps, refit the norms, train what is left under them."""

from __future__ import annotations

import torch

from compression.methods.base import Compressed, Reporter, Task
from compression.quant.allocation import Allocation
from compression.quant.fixed_steps import attach, keep_survivors
from compression.training.loop import make_optimizer, total_steps
from compression.training.measure import curve_images, measure
from compression.training.stage import fresh_statistics, recipe_for, train_stage

LEARNING_RATES = {"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3}


def train_allocated(task: Task, report: Reporter, allocation: Allocation) -> Compressed:
    """Bring an allocation onto ``task.model`` (in place) and fine-tune it for the budget's epochs.

    Pruned weights are 0 and get no gradient, so neither decay nor momentum can move them.

    Raises:
        CompressionError: the allocation does not fit the model, or training broke it.
    """
    model, budget = task.model, task.budget
    attach(model, allocation)
    for note in allocation.notes:
        report.log(note)
    report.point(measure(task, model, step=0, epoch=0.0, phase="allocation", limit=curve_images(task.graph)))
    report.phase("statistics", 0)
    if fresh_statistics(task, report).norms:
        report.point(measure(task, model, step=0, epoch=0.0, phase="statistics", limit=curve_images(task.graph)))
    recipe = recipe_for(task, report)
    base = budget.lr if budget.lr is not None else LEARNING_RATES[budget.optimizer]
    optimizer = make_optimizer(recipe.prepare_model(model.train()), budget.optimizer, base, budget.weight_decay)
    torch.manual_seed(budget.seed)
    train_stage(task, report, recipe, optimizer, base, phase="fine-tuning")
    keep_survivors(model)
    return Compressed(model, {"allocation": allocation.to_dict(budget.model, budget.weights)})


def begin(task: Task, report: Reporter) -> None:
    """Tell how long the run is, and that the allocation comes first."""
    report.plan(total_steps(task.data, task.budget.batch_size, task.budget.epochs))
    report.phase("allocation", 0)


def tell_unused(task: Task, report: Reporter, label: str) -> None:
    """Say which parts of a budget made for several methods a method of single weights has no use for."""
    budget = task.budget
    if budget.activation_bits is not None or any("activation_bits" in bound for bound in budget.layers.values()):
        report.log(f"{label} compresses weights only: activations stay in fp32, activation_bits is not used")
    if budget.groups:
        report.log(f"{label} zeroes single weights: the bounds on groups are not used")
