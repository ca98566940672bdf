"""GETA as a method of the house: quantizers on, one training run with QASSO, points on the way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from compression.budget import Budget
from compression.data import Batches
from compression.errors import CompressionError
from compression.loop import learning_rate
from compression.loop import steps
from compression.loop import total_steps
from compression.loop import train_step
from compression.measure import measure
from compression.methods.base import Compressed
from compression.methods.base import Reporter
from compression.methods.base import Task
from compression.methods.base import Uses
from compression.methods.geta.qasso import QASSO
from compression.methods.geta.saliency import check_criteria
from compression.methods.geta.schedule import fitting
from compression.quant import quantize
from compression.recipe import Recipe
from compression.recipe import choose_recipe

LEARNING_RATES = {"sgd": 0.05, "adam": 1e-2, "adamw": 1e-2}
LR_QUANT = 1e-3
CRITERIA = {"taylor_first_order": 1.0}
"""Saliency unless ``options.criteria`` says otherwise (QASSO: the paper's five). On runs of a few
epochs it chose better: resnet8 on mnist5k, half of the units, lost about a point less at a third of the BOPs."""
OPTIONS = ("criteria",)
CALIBRATION_BATCHES = 8
POINTS = 24
POINT_IMAGES = 1000


class _Geta:
    """Removes whole units and learns bit-widths in one run, starting from a trained dense model."""

    name = "geta"
    label = "GETA"
    summary = "joint structured pruning and quantization-aware training: exactly the units and bit-widths asked for"
    structured = True
    uses = Uses(bits="range", activations=True)

    def check(self, budget: Budget) -> None:
        """Refuse unknown options.

        Raises:
            CompressionError: naming the option or the saliency criterion, and what there is.
        """
        for name in budget.options:
            if name not in OPTIONS:
                raise CompressionError(f"geta: unknown option {name!r}; known: {', '.join(OPTIONS)}")
        criteria = budget.options.get("criteria", {})
        if not isinstance(criteria, Mapping):
            raise CompressionError(f"geta: criteria must map saliency criteria to weights, not {criteria!r}")
        check_criteria(criteria)

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Train ``task.model`` in place within ``task.budget``.

        Raises:
            CompressionError: the budget cannot be reached (too many units, too few steps, a bound on what is not
            there). RunFailed: training diverged.
        """
        budget = task.budget
        self.check(budget)
        total = total_steps(task.data, budget.batch_size, budget.epochs)
        example, _ = next(iter(Batches(task.data, "train", budget.batch_size, seed=budget.seed)))
        _attach(task)
        recipe = choose_recipe(task.model, example, budget.precision)
        recipe.prepare_model(task.model)
        optimizer = optimizer_for(task, total)
        report.plan(total, stages=optimizer.stages.starts(), units=optimizer.units.total, removes=optimizer.target)
        for line in (recipe.why, *_remarks(task, optimizer)):
            report.log(line)
        _train(task, optimizer, recipe, report, total)
        return Compressed(task.model, _facts(optimizer, recipe))


METHOD = GETA = _Geta()


def optimizer_for(task: Task, total: int) -> QASSO:
    """The optimizer that a budget asks for, over ``total`` steps; the model carries its quantizers already."""
    budget = task.budget
    return QASSO(
        task.model,
        task.graph,
        sparsity=budget.sparsity,
        bits=budget.weight_bits,
        activation_bits=budget.activation_bits,
        schedule=fitting(budget.schedule, total),
        total_steps=total,
        variant=budget.optimizer,
        lr=LEARNING_RATES[budget.optimizer] if budget.lr is None else budget.lr,
        lr_quant=LR_QUANT if budget.lr_quant is None else budget.lr_quant,
        weight_decay=budget.weight_decay,
        group_bounds={
            name: tuple(bounds["sparsity"]) for name, bounds in budget.groups.items() if "sparsity" in bounds
        },
        layer_bits=budget.layers,
        criteria=budget.options.get("criteria", CRITERIA),
    )


def _attach(task: Task) -> None:
    budget = task.budget
    if budget.activation_bits is None:
        named = [layer for layer, bounds in budget.layers.items() if "activation_bits" in bounds]
        if named:
            raise CompressionError(
                f"layers.{named[0]}.activation_bits: set activation_bits too, so that activations are quantized"
            )
    quantize(task.model, budget.schedule.start_bits, calibration_batches(task))


def calibration_batches(task: Task) -> list[torch.Tensor] | None:
    """A few unaugmented training batches for the ranges of activations; ``None`` when these stay in floating point."""
    budget: Budget = task.budget
    if budget.activation_bits is None:
        return None
    batches = Batches(task.data, "train", budget.batch_size, seed=budget.seed, augment=False)
    return [x for x, _ in itertools.islice(batches, CALIBRATION_BATCHES)]


def _train(task: Task, optimizer: QASSO, recipe: Recipe, report: Reporter, total: int) -> None:
    budget, model = task.budget, task.model
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda index: learning_rate(1.0, index / total, budget.lr_schedule)
    )
    starts = {first: stage for stage, first in optimizer.stages.starts().items()}
    measured = {round((i + 1) * total / POINTS) for i in range(POINTS)} | {first - 1 for first in starts} | {total}
    for step in steps(task.data, budget.batch_size, budget.epochs, budget.seed):
        report.check()
        number = step.index + 1
        epoch = number * budget.epochs / total
        if number in starts:
            report.phase(starts[number], number)
        model.train()
        optimizer.zero_grad()
        loss, correct = train_step(model, step.x, step.y, recipe)
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
        report.step(number, epoch, loss=loss, accuracy=correct / len(step.y), lr=rate)
        if number in measured:
            report.point(measure(task, model, step=number, epoch=epoch, phase=optimizer.stage, limit=POINT_IMAGES))


def _remarks(task: Task, optimizer: QASSO) -> list[str]:
    """What the user should know about how the budget was read."""
    told = []
    asked, made = task.budget.schedule, optimizer.stages
    if (made.projection_periods, made.pruning_periods) != (asked.projection_periods, asked.pruning_periods):
        told.append(
            f"a short run of {made.total} steps: {made.projection_periods} projection and {made.pruning_periods} "
            f"pruning periods instead of {asked.projection_periods} and {asked.pruning_periods}"
        )
    if not optimizer.units.total:
        told.append("no unit of this model can be removed: it is only quantized")
    named = [layer for layer, bounds in task.budget.layers.items() if "sparsity" in bounds]
    if named:
        told.append(f"GETA removes units of groups: the weight sparsity of layer {', '.join(named)} is not used")
    return told


def _facts(optimizer: QASSO, recipe: Recipe) -> dict[str, Any]:
    return {
        "units": optimizer.units.total,
        "removed": int(optimizer.removed.sum()),
        "removed_units": optimizer.removed_units,
        "stages": optimizer.stages.starts(),
        "precision": recipe.precision,
        "why": recipe.why,
    }
