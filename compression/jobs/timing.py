"""The study of time: a few training steps of the dense model, timed, where no earlier run says how long one takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression import devices
from compression.budget import Budget
from compression.jobs import studies
from compression.runs.folder import DONE, RunFolder
from compression.runs.reporter import RunReporter
from compression.runs.resultfile import written

KIND = "timing"
STEPS, UNTIMED = 5, 2
EXAMPLES = 200  # of the validation split, whose evaluation is timed


def request(budget: Budget) -> dict[str, Any]:
    """The study's parameters."""
    return {"batch_size": budget.batch_size, "steps": STEPS}


def carry_out(folder: RunFolder, events: RunReporter, *, batch_size: int, steps: int) -> dict[str, Any]:
    """Time loading, steps and evaluation; all in seconds: ``load``, ``step``, and ``example`` for one evaluated.

    ``batches``: steps of an epoch; ``examples``: in the validation and the test split. The weights are changed in
    memory alone.

    Raises:
        Cancelled: the job was asked to stop.
    """
    from compression.training import loop
    from compression.training.dense import evaluate, suited_optimizer
    from compression.training.recipe import choose_recipe

    begun = time.perf_counter()
    subject, _ = studies.opened(folder)
    loaded = time.perf_counter() - begun
    model, task = subject.model, subject.task
    device = devices.device_of(model)
    events.plan(steps + UNTIMED)
    recipe, optimizer, measured = None, None, []
    for step in loop.steps(task.data, batch_size, 1.0, 0, device=device):
        if step.index == steps + UNTIMED:
            break
        if recipe is None or optimizer is None:
            recipe = choose_recipe(model, step.x, "auto")
            optimizer = loop.make_optimizer(recipe.prepare_model(model.train()), suited_optimizer(model), 1e-4)
        events.check()
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = loop.train_step(task, model, step.x, step.y, recipe).loss
        optimizer.step()
        float(loss)  # an accelerator has finished the step once its loss is read
        measured.append(time.perf_counter() - start)
        events.step(step.index + 1, step.epoch)
    start, count = time.perf_counter(), task.count("validation", EXAMPLES)
    evaluate(model, task, "validation", limit=count)
    return {
        "load": loaded,
        "step": statistics.median(measured[UNTIMED:] or measured),
        "batches": loop.total_steps(task.data, batch_size, 1.0),
        "example": (time.perf_counter() - start) / max(1, count),
        "examples": {split: task.count(split, None) for split in ("validation", "test")},
    }


def seconds(timed: Mapping[str, Any], epochs: float) -> float:
    """What a run takes at the least: its steps, an evaluation for each epoch, both ends on test data."""
    each = timed["batches"] * timed["step"] + timed["examples"]["validation"] * timed["example"]
    return float(timed["load"] + epochs * each + 2 * timed["examples"]["test"] * timed["example"])


def timed(folder: RunFolder | None) -> dict[str, Any] | None:
    """The result of a study that is done, else ``None``."""
    return written(folder.result_path) if folder is not None and folder.state == DONE else None


def begin(budget: Budget, root: str | Path) -> str:
    """Start (or queue) the timing of the model, weights and data of ``budget``; returns its id.

    Raises:
        CompressionError: the budget is refused, as for a run.
    """
    return studies.begin(KIND, budget, root, **request(budget))
