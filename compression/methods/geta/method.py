"""GETA as a method of the house: quantizers on, one training run with QASSO, points on the way."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch

from compression.budget import Budget
from compression.data import Batches
from compression.errors import CompressionError
from compression.methods.base import Compressed, Reporter, Task, Uses
from compression.methods.geta.clipping import fit_clips
from compression.methods.geta.options import CHANNEL, OPTIONS, Settings, settings
from compression.methods.geta.preflight import check_task
from compression.methods.geta.qasso import QASSO
from compression.methods.geta.schedule import fitting
from compression.methods.geta.training import Training
from compression.quant import quantize
from compression.quant.kernels import COMPILED, compile_kernels
from compression.training.distill import Teacher
from compression.training.loop import total_steps
from compression.training.recipe import Recipe
from compression.training.stage import recipe_for

LEARNING_RATES = {"sgd": 0.05, "adam": 1e-2, "adamw": 1e-2}
LR_QUANT = 1e-3
CALIBRATION_BATCHES = 8


class _Geta:
    """Removes whole units and learns bit-widths in one run, starting from a trained dense model."""

    name = "geta"
    label = "GETA"
    summary = "joint structured pruning and quantization-aware training: exactly the units and bit-widths asked for"
    structured = True
    uses = Uses(bits="range", activations=True)
    options = OPTIONS

    def check(self, budget: Budget) -> None:
        """Refuse unknown options and impossible values.

        Raises:
            CompressionError: naming the option or the saliency criterion, and what there is.
        """
        settings(budget)

    def check_task(self, task: Task) -> None:
        """Refuse a budget that this model or this length of run cannot give."""
        check_task(task)

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Train ``task.model`` in place within ``task.budget``.

        Raises:
            CompressionError: the budget cannot be reached (too many units, too few steps, a bound on what is not
            there). RunFailed: training diverged.
        """
        budget, chosen = task.budget, settings(task.budget)
        total = total_steps(task.data, budget.batch_size, budget.epochs)
        recipe = recipe_for(task, report)
        teacher = Teacher(task.model, recipe) if chosen.distill > 0 else None
        attach(task, chosen)
        recipe.prepare_model(task.model)
        optimizer = optimizer_for(task, total)
        report.plan(total, stages=optimizer.stages.starts(), units=optimizer.units.total, removes=optimizer.target)
        for line in (compile_kernels() or COMPILED, *_remarks(task, optimizer)):
            report.log(line)
        Training(task, optimizer, recipe, chosen, teacher).run(report)
        return Compressed(task.model, {**_facts(optimizer, recipe), "options": dataclasses.asdict(chosen)})


METHOD = GETA = _Geta()


def optimizer_for(task: Task, total: int) -> QASSO:
    """The optimizer that a budget asks for, over ``total`` steps; the model carries its quantizers already."""
    budget, chosen = task.budget, settings(task.budget)
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
        criteria=chosen.criteria,
        joint_steps=chosen.joint_steps,
    )


def attach(task: Task, chosen: Settings) -> None:
    """Put the quantizers on the task's model, with their ranges as the options ask.

    Raises:
        CompressionError: activation bits for a layer of a network whose activations stay in floating point.
    """
    budget = task.budget
    if budget.activation_bits is None:
        named = [layer for layer, bounds in budget.layers.items() if "activation_bits" in bounds]
        if named:
            raise CompressionError(
                f"layers.{named[0]}.activation_bits: set activation_bits too, so that activations are quantized"
            )
    quantize(task.model, budget.schedule.start_bits, calibration_batches(task), per_channel=chosen.weights == CHANNEL)
    if chosen.clip == "fitted":
        fit_clips(task.model, lambda layer, _: lowest_bits(budget, layer))


def lowest_bits(budget: Budget, layer: str) -> float:
    """The lowest bit-width that the weights of ``layer`` may end with."""
    return float((budget.layers.get(layer, {}).get("weight_bits") or budget.weight_bits)[0])


def calibration_batches(task: Task) -> list[torch.Tensor] | None:
    """A few unaugmented training batches for the ranges of activations; ``None`` when these stay in floating point."""
    budget: Budget = task.budget
    if budget.activation_bits is None:
        return None
    batches = Batches(task.data, "train", budget.batch_size, seed=budget.seed, augment=False)
    return [x for x, _ in itertools.islice(batches, CALIBRATION_BATCHES)]


def _remarks(task: Task, optimizer: QASSO) -> list[str]:
    """What the user should know about how the budget was read."""
    told = []
    asked, made = task.budget.schedule, optimizer.stages
    if (made.projection_periods, made.pruning_periods) != (asked.projection_periods, asked.pruning_periods):
        told.append(
            f"a short run of {made.total} steps: {made.projection_periods} projection and {made.pruning_periods} "
            f"pruning periods instead of {asked.projection_periods} and {asked.pruning_periods}"
        )
    channels = {site.layer: site.quantizer.clip for site in optimizer.bounds.sites if site.quantizer.per_channel}
    if channels:
        count = sum(clip.numel() for clip in channels.values())
        told.append(f"{count} output channels of {len(channels)} layers have a range and a step of their own")
    aside = [layer for layer, clip in channels.items() if clip.numel() > len(clip)]
    if aside:
        told.append(f"channels of {', '.join(aside)} lie apart in memory: these weights are quantized pass by pass")
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
