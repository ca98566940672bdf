"""What a run does around its training steps: how they are computed, batches for ranges, and statistics of norms."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import Any

from compression.data import Batches
from compression.graph.inputs import Example, Inputs, first_tensor
from compression.training import parallel
from compression.training.recalibrate import SETTLED, Statistics, recompute_statistics, settle_statistics
from compression.training.recipe import Recipe, choose_recipe, keep_memory
from compression.training.resume import saved_recipe
from compression.training.setup import Reporter, Setup

STATISTICS_BATCHES = 100
CALIBRATION_BATCHES = 8


def recipe_for(setup: Setup, report: Reporter) -> Recipe:
    """How the steps of this run are computed, as before where it was interrupted; the reason is logged."""
    budget, recipe = setup.budget, saved_recipe(report)
    part, device = parallel.part(), setup.device
    if recipe is None:
        few = Batches(setup.data, "train", budget.batch_size, augment=False, device=device, part=part)
        example, _ = few.batch(0, 0)
        recipe = parallel.shared(choose_recipe(setup.model, example, budget.precision))
    elif recipe.device != setup.device.type:
        report.log(f"goes on on {setup.device}, where its last step was computed on {recipe.device}")
        recipe = recipe.on(device, setup.model, budget.batch_size // parallel.size())
    keep_memory()
    report.log(recipe.why)
    return recipe


def plain_batches(setup: Setup, report: Reporter, most: int = STATISTICS_BATCHES) -> Iterator[Any]:
    """Up to ``most`` training batches without augmentation, for statistics and ranges; stops when the run has to."""
    size, seed = setup.budget.batch_size, setup.budget.seed
    batches = Batches(setup.data, "train", size, seed=seed, augment=False, device=setup.device)
    for index in range(min(most, len(batches))):
        report.check()
        yield batches.batch(0, index)[0]


def few_inputs(setup: Setup, report: Reporter, samples: int) -> Iterator[Example]:
    """The first ``samples`` training inputs in batches, the same at every call; all where there are fewer."""
    for x in plain_batches(setup, report, math.ceil(samples / setup.budget.batch_size)):
        size = min(samples, len(first_tensor(x)))
        yield Inputs.read(x).map(operator.itemgetter(slice(size))).example
        samples -= size


def calibration_batches(setup: Setup, report: Reporter) -> list[Any]:
    """The few batches from which ranges of activations are taken, in the form that :mod:`compression.quant` takes."""
    batches = plain_batches(setup, report, CALIBRATION_BATCHES)
    return [(x,) if isinstance(x, (tuple, list)) else x for x in batches]


def fresh_statistics(setup: Setup, report: Reporter) -> Statistics:
    """Take the batch norms' statistics anew from plain training batches until they settle, and log the progress."""

    def watch(taken: Statistics) -> None:
        if taken.batches.bit_count() == 1:  # after 1, 2, 4, 8 ... batches: a few lines however many there are
            report.log(f"{taken}; settled at {100 * SETTLED:g} %")

    taken = settle_statistics(setup.model, plain_batches(setup, report), watch=watch)
    if taken.norms:
        report.log(str(taken))
    return taken


def recalibrate(setup: Setup, recipe: Recipe, batches: int, report: Reporter) -> None:
    """Take the batch norms' statistics anew over so many batches of one epoch; 0 keeps them.

    Images are augmented as in training: statistics of plain ones lost over a point of accuracy.
    """
    budget, epoch = setup.budget, math.ceil(setup.budget.epochs)
    images = Batches(setup.data, "train", budget.batch_size, seed=budget.seed, epoch=epoch, device=setup.device)
    count = min(batches, len(images))
    if count:
        prepared = (recipe.prepare(x) for x, _ in itertools.islice(images, count))
        with recipe.autocast():
            norms = recompute_statistics(setup.model, prepared)
        report.log(f"statistics of {norms} batch norms taken anew over {count} batches")
