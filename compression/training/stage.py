"""The training loop of methods that compress first and then fine-tune: one stage of a run, with points on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from compression.data import Batches
from compression.training.loop import check_finite, learning_rate, set_learning_rate, steps, total_steps, train_step
from compression.training.measure import CURVE_IMAGES, curve_images, measure
from compression.training.recalibrate import SETTLED, Statistics, settle_statistics
from compression.training.recipe import Recipe, choose_recipe, keep_memory
from compression.training.resume import Stateful, captured, go_on, saved_recipe
from compression.training.setup import Reporter, Setup

STATISTICS_BATCHES = 100
POINTS = 24  # measured over a whole run


def recipe_for(setup: Setup, report: Reporter) -> Recipe:
    """How the steps of this run are computed, as before where it was interrupted; the reason is told."""
    budget, recipe = setup.budget, saved_recipe(report)
    if recipe is None:
        example = Batches(setup.data, "train", budget.batch_size, augment=False).batch(0, 0)[0]
        recipe = choose_recipe(setup.model, example, budget.precision)
    keep_memory()
    report.log(recipe.why)
    return recipe


def train_stage(
    setup: Setup,
    report: Reporter,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    base: float,
    *,
    phase: str,
    first: int = 0,
    last: int | None = None,
    curve: tuple[int, int] | None = None,
    before: Callable[[int], None] | None = None,
    after: Callable[[float], None] | None = None,
    parts: Mapping[str, Stateful] | None = None,
) -> None:
    """Train ``setup.model`` from step ``first`` (counted from 0) up to ``last`` (not included; by default the end).

    In a run that was interrupted it goes on after the last checkpoint, or does nothing if the stage was over.

    Args:
        recipe: how steps are computed. optimizer: what is trained. base: learning rate at the beginning of ``curve``.
        phase: the stage's name, told at its beginning.
        curve: the steps (first, last) over which the learning rate follows the budget's schedule; the stage if absent.
        before: called with the number of each step (from 0) before it is taken.
        after: called when a step has been taken with the share of ``base`` the learning rate had, such as to hold zeros
            at zero.
        parts: what a checkpoint holds beside the model and the optimizer.
    """
    model, budget = setup.model, setup.budget
    total = total_steps(setup.data, budget.batch_size, budget.epochs)
    last = total if last is None else last
    begin, end = curve or (first, last)
    measured = {round((i + 1) * total / POINTS) for i in range(POINTS)} | {last}
    parts = {"model": model, "optimizer": optimizer, **(parts or {})}
    start = go_on(report, phase, parts, first, last)
    if start is None:
        return
    report.phase(phase, first, first * budget.epochs / total)
    for step in steps(setup.data, budget.batch_size, budget.epochs, budget.seed, start=start):
        if step.index >= last:
            break
        report.check()
        if before is not None:
            before(step.index)
        rate = learning_rate(base, (step.index - begin) / (end - begin), budget.lr_schedule)
        set_learning_rate(optimizer, rate)
        model.train()
        optimizer.zero_grad()
        loss, correct = train_step(model, step.x, step.y, recipe)
        optimizer.step()
        if after is not None:
            after(rate / base)
        done = step.index + 1
        epoch = done * budget.epochs / total
        report.step(done, epoch, loss=loss, accuracy=correct / len(step.y), lr=rate)
        if done in measured:
            limit = CURVE_IMAGES if done == total else curve_images(setup.graph)
            report.point(measure(setup, model, step=done, epoch=epoch, phase=phase, limit=limit))
        report.checkpoint(done, partial(captured, phase, done, recipe, parts), due=done == last)
    check_finite(model)


def plain_batches(setup: Setup, report: Reporter, most: int = STATISTICS_BATCHES) -> Iterator[torch.Tensor]:
    """Up to ``most`` training batches without augmentation, for statistics and ranges; stops when the run is to."""
    batches = Batches(setup.data, "train", setup.budget.batch_size, seed=setup.budget.seed, augment=False)
    for index in range(min(most, len(batches))):
        report.check()
        yield batches.batch(0, index)[0]


def fresh_statistics(setup: Setup, report: Reporter) -> Statistics:
    """Take the batch norms' statistics anew from plain training batches until they settle, and say how it goes."""

    def watch(taken: Statistics) -> None:
        if taken.batches.bit_count() == 1:  # after 1, 2, 4, 8 ... batches: a few lines however many there are
            report.log(f"{taken}; settled at {100 * SETTLED:g} %")

    taken = settle_statistics(setup.model, plain_batches(setup, report), watch=watch)
    if taken.norms:
        report.log(str(taken))
    return taken
