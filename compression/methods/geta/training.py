"""The training run of GETA: one usual loop around QASSO, with saliency, clipping bounds and the goal as asked for."""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch

from compression.data import Batches
from compression.methods.base import Reporter, Setup
from compression.methods.geta.clipping import fit_clips
from compression.methods.geta.events import tell
from compression.methods.geta.options import GetaOptions
from compression.methods.geta.qasso import QASSO
from compression.methods.geta.schedule import COOL_DOWN
from compression.pruning.saliency import AveragedSaliency
from compression.pruning.unit_cost import unit_prices
from compression.training.distill import Goal, Teacher
from compression.training.loop import Step, learning_rate, steps, train_step
from compression.training.measure import curve_images, measure
from compression.training.recalibrate import recompute_statistics
from compression.training.recipe import Recipe
from compression.training.resume import Stateful, captured, check_taken_over, go_on

TRAINING = "training"
POINTS = 24


class Training:
    """Everything of one run between attaching the quantizers and handing the compressed model back.

    ``teacher`` is the dense network, needed when ``settings.distill`` is above 0.
    """

    def __init__(
        self, setup: Setup, optimizer: QASSO, recipe: Recipe, settings: GetaOptions, teacher: Teacher | None = None
    ) -> None:
        self.setup, self.optimizer, self.recipe, self.settings = setup, optimizer, recipe, settings
        self.total = optimizer.stages.total
        self.goal: Goal | None = None
        if teacher is not None and settings.distill > 0:
            self.goal = teacher.goal(settings.distill, settings.temperature)
        self.saliency: AveragedSaliency | None = None
        if optimizer.target > 0 and (settings.saliency_batches > 1 or settings.cost != "none"):
            self.saliency = AveragedSaliency(optimizer.units, settings.criteria)
            optimizer.scorer = self._scores
        self.observed = self._observed_steps()

    def run(self, report: Reporter) -> None:
        """Train to the end, from the last checkpoint on if there is one; ``report`` hears of all stages and points."""
        budget, schedule = self.setup.budget, torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        starts = {first: stage for stage, first in self.optimizer.stages.starts().items()}
        measured = {round((i + 1) * self.total / POINTS) for i in range(POINTS)} | {first - 1 for first in starts}
        parts = self._parts(schedule)
        start = go_on(report, TRAINING, parts, 0, self.total) or 0
        check_taken_over(report)
        if start:
            self._tell_stage(report)
        for step in steps(self.setup.data, budget.batch_size, budget.epochs, budget.seed, start=start):
            report.check()
            number = step.index + 1
            epoch = number * budget.epochs / self.total
            if number in starts:
                self._enter(starts[number])
            rate = self.optimizer.param_groups[0]["lr"]
            loss, correct = self.take(step)
            schedule.step()
            if number in starts:
                self._tell_stage(report)
            report.step(number, epoch, loss=loss, accuracy=correct / len(step.y), lr=rate)
            tell(self.optimizer, report)
            if number == self.total:
                self._recalibrate(report)
            if number in measured or number == self.total:
                self._point(report, number, epoch)
            due = number + 1 in starts or number == self.total
            report.checkpoint(number, partial(captured, TRAINING, number, self.recipe, parts), due=due)

    def _parts(self, schedule: Stateful) -> dict[str, Stateful]:
        """What a checkpoint holds."""
        parts: dict[str, Stateful] = {"model": self.setup.model, "optimizer": self.optimizer, "schedule": schedule}
        return parts if self.saliency is None else {**parts, "saliency": self.saliency}

    def _tell_stage(self, report: Reporter) -> None:
        """The stage of the last step taken, and where it began."""
        first = self.optimizer.stages.starts()[self.optimizer.stage]
        report.phase(self.optimizer.stage, first, (first - 1) * self.setup.budget.epochs / self.total)

    def take(self, step: Step) -> tuple[float, int]:
        """One training step; the loss and how many images of the batch were right."""
        self.setup.model.train()
        self.optimizer.zero_grad()
        done = train_step(self.setup.model, step.x, step.y, self.recipe, self.goal)
        if self.saliency is not None and step.index + 1 in self.observed:
            self.saliency.observe()
        self.optimizer.step()
        return done

    def _rate(self, index: int) -> float:
        """The learning rates' factor at step ``index`` (from 0), never quite 0."""
        fraction = (index + 1) / (self.total + 1)
        return learning_rate(1.0, fraction, self.setup.budget.lr_schedule, self.settings.lr_warmup)

    def _observed_steps(self) -> set[int]:
        """The steps whose gradients count: the last few before and at each choice of redundant units."""
        stages, window = self.optimizer.stages, self.settings.saliency_batches
        joint = range(stages.projection_end + 1, stages.joint_end + 1)
        choices = [number for number in joint if stages.period(number).position == 1]
        return {number for choice in choices for number in range(max(1, choice - window + 1), choice + 1)}

    def _scores(self) -> torch.Tensor:
        """Averaged saliency [N], divided by the price of the unit's group."""
        assert self.saliency is not None
        units, settings = self.optimizer.units, self.settings
        gone = [0] * len(units)
        for unit in torch.nonzero(self.optimizer.removed).flatten().tolist():
            gone[units.group_of[unit]] += 1
        prices = torch.tensor(unit_prices(self.setup.graph, gone, settings.cost))
        return self.saliency.take() / prices[units.group_of] ** settings.cost_power

    def _enter(self, stage: str) -> None:
        """Bounds are fitted once more when the bit-widths become final: the weights are others by now."""
        if stage == COOL_DOWN and self.settings.clip == "fitted":
            fit_clips(self.setup.model, lambda _, quantizer: round(quantizer.bits()))

    def _recalibrate(self, report: Reporter) -> None:
        """Statistics come from images augmented as in training: those of plain ones lost over a point of accuracy."""
        budget, recipe = self.setup.budget, self.recipe
        batches = Batches(self.setup.data, "train", budget.batch_size, seed=budget.seed, epoch=math.ceil(budget.epochs))
        count = min(self.settings.recalibrate, len(batches))
        if count:
            images = (recipe.prepare(x) for x, _ in itertools.islice(batches, count))
            with recipe.autocast():
                found = recompute_statistics(self.setup.model, images)
            report.log(f"statistics of {found} batch norms taken anew over {count} batches")

    def _point(self, report: Reporter, number: int, epoch: float) -> None:
        """The last point counts all validation images: settings are chosen by it."""
        phase, limit = self.optimizer.stage, None if number == self.total else curve_images(self.setup.graph)
        report.point(measure(self.setup, self.setup.model, step=number, epoch=epoch, phase=phase, limit=limit))
