"""OPQ as a method: allocate on the dense weights, fix masks and steps, refit the norms, fine-tune what is left."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from compression.budget import Budget
from compression.data import Batches
from compression.errors import CompressionError
from compression.loop import learning_rate
from compression.loop import make_optimizer
from compression.loop import set_learning_rate
from compression.loop import steps
from compression.loop import total_steps
from compression.loop import train_step
from compression.measure import measure
from compression.methods.base import Compressed
from compression.methods.base import Reporter
from compression.methods.base import Task
from compression.methods.opq.allocation import Allocation
from compression.methods.opq.allocation import allocate
from compression.methods.opq.options import options
from compression.methods.opq.quantizer import attach
from compression.methods.opq.quantizer import keep_survivors
from compression.recalibrate import recompute_statistics
from compression.recipe import choose_recipe

LEARNING_RATES = {"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3}
STATISTICS_BATCHES = 100
POINTS = 24  # measured while fine-tuning
IMAGES = 1000  # of the validation split, for each of them


class Opq:
    """One-shot pruning and quantization: sparsity and bits are spent in closed form before any training."""

    name = "opq"
    label = "OPQ"
    summary = "Allocates sparsity and bits from the trained weights alone, then fine-tunes with masks and steps fixed."
    structured = False

    def check(self, budget: Budget) -> None:
        """Refuse unknown options and impossible values.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        options(budget)

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Compress ``task.model`` in place within ``task.budget`` (sparsity of weights, average value bits).

        Raises:
            CompressionError: an unknown option, or bounds that cannot be met.
        """
        model, budget = task.model, task.budget
        chosen = options(budget)
        total = total_steps(task.data, budget.batch_size, budget.epochs)
        report.plan(total)
        _tell_unused(budget, report)
        report.phase("allocation", 0)
        allocation = allocate(model, budget.sparsity, budget.bits, budget.layers, **chosen)
        attach(model, allocation)
        _tell(allocation, report)
        report.point(measure(task, model, step=0, epoch=0.0, phase="allocation", limit=IMAGES))
        report.phase("statistics", 0)
        if recompute_statistics(model, _plain_batches(task, report)):
            report.point(measure(task, model, step=0, epoch=0.0, phase="statistics", limit=IMAGES))
        report.phase("fine-tuning", 0)
        _fine_tune(task, report, total)
        keep_survivors(model)
        return Compressed(model, {"allocation": allocation.to_dict(budget.model, budget.weights)})


def _tell_unused(budget: Budget, report: Reporter) -> None:
    """Say which parts of a budget made for several methods OPQ has no use for."""
    if budget.activation_bits is not None or any("activation_bits" in bound for bound in budget.layers.values()):
        report.log("OPQ compresses weights only: activations stay in fp32, activation_bits is not used")
    if budget.groups:
        report.log("OPQ zeroes single weights: the bounds on groups are not used")


def _tell(allocation: Allocation, report: Reporter) -> None:
    report.log(
        f"{allocation.pruned} of {allocation.numel} weights pruned; {allocation.value_bits} of "
        f"{allocation.budget_bits} value bits spent{', proven optimal' if allocation.exact else ''}"
    )
    for note in allocation.notes:
        report.log(note)


def _plain_batches(task: Task, report: Reporter) -> Iterator[torch.Tensor]:
    batches = Batches(task.data, "train", task.budget.batch_size, seed=task.budget.seed, augment=False)
    for index in range(min(STATISTICS_BATCHES, len(batches))):
        report.check()
        yield batches.batch(0, index)[0]


def _fine_tune(task: Task, report: Reporter, total: int) -> None:
    """The usual loop. Pruned weights are 0 and get no gradient, so neither decay nor momentum can move them."""
    model, budget = task.model, task.budget
    example = Batches(task.data, "train", budget.batch_size, augment=False).batch(0, 0)[0]
    recipe = choose_recipe(model, example, budget.precision)
    report.log(recipe.why)
    base = budget.lr if budget.lr is not None else LEARNING_RATES[budget.optimizer]
    optimizer = make_optimizer(recipe.prepare_model(model.train()), budget.optimizer, base, budget.weight_decay)
    measured = {round((i + 1) * total / POINTS) for i in range(POINTS)}
    torch.manual_seed(budget.seed)
    for step in steps(task.data, budget.batch_size, budget.epochs, budget.seed):
        report.check()
        rate = learning_rate(base, step.fraction, budget.lr_schedule)
        set_learning_rate(optimizer, rate)
        optimizer.zero_grad()
        loss, correct = train_step(model, step.x, step.y, recipe)
        optimizer.step()
        done = step.index + 1
        epoch = done * budget.epochs / total
        report.step(done, epoch, loss=loss, accuracy=correct / len(step.y), lr=rate)
        if done in measured:
            report.point(measure(task, model, step=done, epoch=epoch, phase="fine-tuning", limit=IMAGES))
    _finite(model)


def _finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise CompressionError(f"{name} is no longer finite after fine-tuning; choose a smaller learning rate")


OPQ = Opq()
METHOD = OPQ
