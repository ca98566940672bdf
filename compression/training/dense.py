"""Train a dense model, and measure how well any model does on a split."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression import commands, devices, home, tasks
from compression.data import Batches, DataSet
from compression.errors import CompressionError
from compression.graph.inputs import first_tensor
from compression.tasks import Evaluation, Metric, Task
from compression.training.loop import (
    check_finite,
    check_score,
    learning_rate,
    make_optimizer,
    set_learning_rate,
    steps,
    total_steps,
    train_step,
)
from compression.training.recipe import Recipe, choose_recipe

BATCH_SIZE, WARMUP = 64, 0.1
READ_EVERY = 10  # steps on an accelerator: reading the loss of each would wait for each
RATES = {"sgd": (0.2, 5e-4), "adam": (1e-3, 0.0), "adamw": (1e-3, 0.05)}
"""Learning rate and weight decay of each optimizer where none are given."""


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch (from 1): training loss and score as seen on the way, validation ``score`` after it.

    On an accelerator the first two are of every :data:`READ_EVERY`-th step.
    """

    epoch: float
    loss: float
    train_score: float
    score: float
    lr: float
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained model with its history; ``validation`` and ``test`` are measured in fp32 after the last step."""

    model: nn.Module
    metric: Metric
    epochs: tuple[EpochResult, ...]
    validation: Evaluation
    test: Evaluation
    recipe: Recipe
    seconds: float


def evaluate(
    model: nn.Module,
    task: Task | DataSet,
    split: str = "validation",
    limit: int | None = None,
    recipe: Recipe | None = None,
) -> Evaluation:
    """Score and loss of ``model`` in evaluation mode on the first ``limit`` examples of a split.

    Computed in fp32 unless a recipe says otherwise; the model's training mode is restored.
    """
    task, device = tasks.task_of(task), devices.device_of(model)
    recipe = recipe or Recipe(threads=torch.get_num_threads())
    training, scorer = model.training, task.scorer()
    model.eval()
    try:
        with torch.no_grad(), recipe.autocast():
            count = task.count(split, limit)
            size = task.evaluation_batch
            for x, y in Batches(task.data, split, size, augment=False, limit=count, device=device):
                scorer.add(task.answer(model, recipe.prepare(x)).float(), y)
    finally:
        model.train(training)
    result = scorer.result()
    try:
        json.dumps(result.details)
        return dataclasses.replace(result, score=float(result.score), loss=float(result.loss))
    except (TypeError, ValueError) as error:
        raise CompressionError(
            f"what {task.name} counts on the {split} split cannot be stored as JSON: {error}"
        ) from error


def train_dense(
    model: nn.Module,
    task: Task | DataSet,
    epochs: float,
    seed: int = 0,
    on_epoch: Callable[[EpochResult], None] | None = None,
    *,
    on_step: Callable[[int, int, float], None] | None = None,
    batch_size: int = BATCH_SIZE,
    optimizer: str | None = None,
    lr: float | None = None,
    lr_schedule: str = "cosine",
    weight_decay: float | None = None,
    precision: str = "auto",
) -> TrainResult:
    """Train ``model`` in place; the same seed, machine and thread count give the same weights, bit for bit.

    ``optimizer``, ``lr`` and ``weight_decay`` that are not given are those of :func:`suited_optimizer` and
    :data:`RATES`.

    ``on_epoch`` gets each finished epoch, ``on_step`` (step from 1, total, loss), on an accelerator of every
    :data:`READ_EVERY`-th step; what they raise ends the training.

    Raises:
        CompressionError: ``epochs`` is not above 0, or an option is unknown.
        RunFailed: the loss or the model is no longer finite.
    """
    task = tasks.task_of(task)
    dataset, device = task.data, devices.device_of(model)
    start, total = time.perf_counter(), total_steps(dataset, batch_size, epochs)
    example, _ = Batches(dataset, "train", batch_size, augment=False, device=device).batch(0, 0)
    recipe = choose_recipe(model, example, precision)
    optimizer = optimizer or suited_optimizer(model)
    usual_lr, usual_decay = RATES.get(optimizer, RATES["sgd"])
    lr, weight_decay = usual_lr if lr is None else lr, usual_decay if weight_decay is None else weight_decay
    stepper = make_optimizer(recipe.prepare_model(model.train()), optimizer, lr, weight_decay)
    history: list[EpochResult] = []
    seen = _Seen()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in steps(dataset, batch_size, epochs, seed, device=device):
            rate = learning_rate(lr, step.fraction, lr_schedule, WARMUP)
            set_learning_rate(stepper, rate)
            stepper.zero_grad()
            loss, score = train_step(task, model, step.x, step.y, recipe)
            stepper.step()
            if device.type == "cpu" or step.index % READ_EVERY == 0 or step.ends_epoch:
                seen.add(float(loss), float(score), len(first_tensor(step.y)))
                if on_step is not None:
                    on_step(step.index + 1, total, float(loss))
            if step.ends_epoch:
                done = (step.index + 1) * epochs / total
                history.append(seen.finish(done, evaluate(model, task).score, rate))
                seen = _Seen()
                if on_epoch is not None:
                    on_epoch(history[-1])
    check_finite(model)
    validation, test = evaluate(model, task, "validation"), evaluate(model, task, "test")
    for split, measured in (("validation", validation), ("test", test)):
        check_score(task, measured.score, split)
    return TrainResult(model, task.metric, tuple(history), validation, test, recipe, time.perf_counter() - start)


def suited_optimizer(model: nn.Module) -> str:
    """``sgd`` where batch norms keep the scale of weights from mattering, else ``adamw`` (transformers)."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return "sgd" if any(isinstance(module, norms) for module in model.modules()) else "adamw"


class _Seen:
    """Sums over the steps of one epoch."""

    def __init__(self) -> None:
        self.begin, self.loss, self.score, self.count = time.perf_counter(), 0.0, 0.0, 0

    def add(self, loss: float, score: float, count: int) -> None:
        self.loss += loss * count
        self.score += score * count
        self.count += count

    def finish(self, epoch: float, score: float, lr: float) -> EpochResult:
        seconds = time.perf_counter() - self.begin
        return EpochResult(epoch, self.loss / self.count, self.score / self.count, score, lr, seconds)


def provenance(
    result: TrainResult,
    *,
    model: str,
    data: str,
    label: str,
    input: tuple[int, ...],
    classes: int,
    epochs: float,
    seed: int,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a weights file records about its training: JSON values, for :func:`compression.zoo.weights.save`.

    ``options``: further options of the ``train`` command by their names.
    """
    typed = {"model": model, "data": data, "epochs": f"{epochs:g}", "seed": seed, **(options or {})}
    return {
        "model": model,
        "data": data,
        "label": label,
        "input": list(input),
        "classes": classes,
        "epochs": epochs,
        "seed": seed,
        f"test_{result.metric.name}": round(result.test.score, 6),
        f"validation_{result.metric.name}": round(result.validation.score, 6),
        "is_chance": result.test.is_chance,
        "precision": result.recipe.precision,
        "threads": result.recipe.threads,
        "torch": torch.__version__,
        "commit": _commit(),
        "recipe": result.recipe.why,
        "command": commands.line("train", options=typed),
    }


def _commit() -> str | None:
    """The commit of the code that trained, when it runs from a repository that has one."""
    if home.INSTALLED:
        return None
    try:
        process = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=home.CODE, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return process.stdout.strip() if process.returncode == 0 else None
