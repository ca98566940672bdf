"""The parts every training loop here is made of: batches by step, the learning rate, one forward and backward pass.

A method's loop reads::

    for step in steps(dataset, batch_size, epochs, seed):
        set_learning_rate(optimizer, learning_rate(base, step.fraction))
        optimizer.zero_grad()
        loss, score = train_step(task, model, step.x, step.y, recipe)
        optimizer.step()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, SupportsFloat

import torch
from torch import nn

from compression.budget import Budget
from compression.data import Batches, DataSet
from compression.errors import CompressionError, RunFailed
from compression.tasks import Task
from compression.training import parallel
from compression.training.distill import Goal
from compression.training.recipe import Recipe

CPU = torch.device("cpu")
COMPRESSING = {"sgd": 0.05, "adam": 1e-2, "adamw": 1e-2}
"""Learning rates by optimizer where units are removed or bit-widths learned in training."""
FINE_TUNING = {"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3}
"""Learning rates by optimizer where zeros and steps stay fixed in training."""
LR_QUANT = 1e-3
"""Learning rate of the quantizers' own parameters."""


@dataclass(frozen=True, eq=False)
class Step:
    """One training step: ``index`` from 0; ``epoch`` and ``fraction`` (of the run, 0..1) are the progress *before* it.

    ``x``: normalised, augmented fp32 [B, C, H, W]; ``y``: int64 [B]; or what the data hold for other tasks.
    ``ends_epoch``: last of its epoch or of the run.
    """

    index: int
    epoch: float
    fraction: float
    x: Any
    y: Any
    ends_epoch: bool


class Loss(NamedTuple):
    """``loss``: what was minimised, a mean over the batch; ``score``: the task's, of this batch.

    On the CPU both are numbers. On an accelerator ``float`` of one waits until the device has done all it was given:
    who needs one only now and then reads it only then.
    """

    loss: SupportsFloat
    score: SupportsFloat


class _Late:
    """The score of a batch, computed when it is read."""

    def __init__(self, score: Callable[[], float]) -> None:
        self.item = score

    def __float__(self) -> float:
        return float(self.item())


def total_steps(dataset: DataSet, batch_size: int, epochs: float) -> int:
    """How many steps a run of ``epochs`` (a fraction is allowed) takes: at least one.

    Raises:
        CompressionError: ``epochs`` is not above 0.
    """
    if not math.isfinite(epochs) or epochs <= 0:
        raise CompressionError(f"epochs must be above 0, not {epochs:g}")
    return max(1, round(epochs * len(Batches(dataset, "train", batch_size))))


def steps(
    dataset: DataSet, batch_size: int, epochs: float, seed: int, start: int = 0, device: torch.device = CPU
) -> Iterator[Step]:
    """Every training step of a run from ``start`` on: the same for the same seed, wherever it is resumed.

    Of several processes each gets a part of every batch.
    """
    total = total_steps(dataset, batch_size, epochs)
    batches = Batches(dataset, "train", batch_size, seed=seed, device=device, part=parallel.part())
    for index in range(start, total):
        x, y = batches.batch(index // len(batches), index % len(batches))
        ends_epoch = (index + 1) % len(batches) == 0 or index + 1 == total
        yield Step(index, index / len(batches), index / total, x, y, ends_epoch)


def base_rate(budget: Budget, usual: Mapping[str, float]) -> float:
    """The learning rate that a budget's schedule starts from: its own, or the usual one of its optimizer."""
    return usual[budget.optimizer] if budget.lr is None else budget.lr


def learning_rate(base: float, fraction: float, kind: str = "cosine", warmup: float = 0.0) -> float:
    """The learning rate after ``fraction`` (0..1) of a run: ``cosine`` falls to 0, ``constant`` stays.

    Both follow a linear rise over the share ``warmup``.

    Raises:
        CompressionError: unknown ``kind``.
    """
    if kind not in ("cosine", "constant"):
        raise CompressionError(f"lr_schedule must be cosine or constant, not {kind!r}")
    if fraction < warmup:
        return base * (fraction / warmup)
    if kind == "constant":
        return base
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - warmup) / (1 - warmup))))


def restarted_rate(base: float, fraction: float, kind: str, warmup: float, begin: float, factor: float) -> float:
    """The learning rate after ``fraction`` of a schedule that is raised once, where the last stage begins.

    Before ``begin`` it is r(p) = :func:`learning_rate`; from there on, with p from ``begin`` to 1,
    ``factor · r(begin) · (1 + cos(π (p - begin) / (1 - begin))) / 2``. A stage that begins within the warm-up, as one
    with a schedule of its own does, rises first and falls to 0 by the same cosine: ``factor · r(p)`` of kind cosine.
    """
    if fraction < begin:
        return learning_rate(base, fraction, kind, warmup)
    if begin <= warmup:
        return factor * learning_rate(base, fraction, "cosine", warmup)
    return learning_rate(factor * learning_rate(base, begin, kind, warmup), (fraction - begin) / (1 - begin))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, undecayed: Iterable[torch.Tensor] = ()
) -> list[dict[str, Any]]:
    """Optimizer groups in which weights (two or more dimensions) decay and biases, norms and scalars do not.

    ``undecayed``: weights that do not either.
    """
    trained, exempt = [parameter for parameter in parameters if parameter.requires_grad], {*map(id, undecayed)}
    decays = [p.dim() > 1 and id(p) not in exempt for p in trained]
    return [
        {"params": [p for p, decay in zip(trained, decays, strict=True) if decay], "weight_decay": weight_decay},
        {"params": [p for p, decay in zip(trained, decays, strict=True) if not decay], "weight_decay": 0.0},
    ]


def make_optimizer(
    model: nn.Module,
    kind: str = "sgd",
    lr: float = 0.1,
    weight_decay: float = 1e-4,
    undecayed: Iterable[torch.Tensor] = (),
) -> torch.optim.Optimizer:
    """An optimizer over all parameters: ``sgd`` (momentum 0.9, Nesterov), ``adam`` or ``adamw``.

    ``undecayed``: weights without decay, as those of norms and biases.

    Raises:
        CompressionError: unknown ``kind``.
    """
    groups = [group for group in parameter_groups(model.parameters(), weight_decay, undecayed) if group["params"]]
    return optimizer_over(groups, kind, lr)


def optimizer_over(groups: list[dict[str, Any]], kind: str, lr: float) -> torch.optim.Optimizer:
    """An optimizer of a kind of :func:`make_optimizer` over groups of parameters.

    Raises:
        CompressionError: unknown ``kind``.
    """
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    if kind == "adam":
        return torch.optim.Adam(groups, lr=lr)
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    raise CompressionError(f"optimizer must be sgd, adam or adamw, not {kind!r}")


def check_finite(model: nn.Module) -> None:
    """Refuse to go on with a model that training has broken.

    Raises:
        RunFailed: naming the parameter or the running statistic of a norm that is not finite.
    """
    statistics = (
        (name, value) for name, value in model.named_buffers() if name.endswith(("running_mean", "running_var"))
    )
    named = dict([*model.named_parameters(), *statistics])
    if not named:
        return
    finite = torch.stack([torch.isfinite(value).all() for value in named.values()]).tolist()  # read at once
    for name, good in zip(named, finite, strict=True):
        if not good:
            raise RunFailed(f"training diverged ({name} is no longer finite): choose a smaller learning rate")


def check_score(task: Task, score: float, split: str) -> None:
    """Refuse a score that is no number.

    Raises:
        RunFailed: naming the metric.
    """
    if not math.isfinite(score):
        raise RunFailed(f"the {task.metric.label} of the {split} split is not a number ({score})")


def answer_and_loss(
    task: Task, model: nn.Module, x: Any, y: Any, recipe: Recipe
) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """What a network answers in a training step, fp32, and what gives the task's loss, or that of the network."""
    with recipe.autocast():
        answer, own = parallel.training_answer(task, model, x, y)
    answer = answer.float()
    return answer, partial(task.loss, answer, y) if own is None else own.float


def train_step(task: Task, model: nn.Module, x: Any, y: Any, recipe: Recipe, goal: Goal | None = None) -> Loss:
    """Forward, loss in fp32, backward: adds to the gradients; the caller zeroes them and steps.

    ``goal`` is what is minimised (see :mod:`compression.training.distill`), by default the task's loss.

    Raises:
        RunFailed: the loss is no longer finite (the run diverged); on an accelerator, whose results are read late, the
            next point or checkpoint says so (:func:`check_finite`).
    """
    answer, hard = answer_and_loss(task, model, recipe.prepare(x), y, recipe)
    loss = hard() if goal is None else goal(answer, x, hard)
    value: SupportsFloat = loss.detach()
    value_is_read = loss.device == CPU
    if value_is_read:
        value = float(value)
        if not math.isfinite(value):
            raise RunFailed("training diverged (the loss is not finite): choose a smaller learning rate")
    loss.backward()
    score = partial(task.batch_score, answer.detach(), y)
    return Loss(value, score() if value_is_read else _Late(score))
