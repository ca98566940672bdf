"""A section of a run: steps that one optimizer takes, what a method does in each, and what the shared options add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from compression.quant.inheritance import Inheritance
from compression.quant.noise import QuantizationNoise
from compression.training.average import WeightAverage
from compression.training.distill import Distillation
from compression.training.loop import Loss, Step, learning_rate, restarted_rate, train_step
from compression.training.options import StagedTrainingOptions, TrainingOptions
from compression.training.oscillation import Oscillation
from compression.training.recipe import Recipe
from compression.training.resume import Stateful
from compression.training.setup import Reporter, Setup


class Algorithm:
    """What a method does within the loop. Steps count from 0; every method here does nothing unless overridden."""

    def before_step(self, step: int) -> None:
        """``step`` is about to be taken."""

    def after_backward(self, step: int) -> None:
        """The gradients of ``step`` are complete; the weights have not changed yet."""

    def after_step(self, step: int) -> None:
        """The optimizer has changed the weights, such as those that have to stay zero."""

    def report(self, step: int, report: Reporter) -> None:
        """Report what was decided in ``step``."""

    def restore(self) -> None:
        """The weights were replaced by their average: bring quantizers back onto their bit-widths."""

    def bits_changed(self) -> None:
        """Whole bit-widths were set anew: keep quantizers at those that they have now."""


@dataclass(frozen=True)
class Section:
    """Steps ``first`` (from 0) up to ``last`` (not included) of a run, all taken by one optimizer.

    Args:
        name: what checkpoints call it.
        phases: first step → name of each stage in it; one stage called ``name`` if absent.
        curve: the steps (begin, end) over which the learning rate follows the budget's schedule; the section if absent.
        parts: what a checkpoint holds beside the model and the optimizer.
        number: what events call the first step of a stage that begins with the run.
    """

    name: str
    optimizer: torch.optim.Optimizer
    first: int
    last: int
    phases: Mapping[int, str] = field(default_factory=dict)
    curve: tuple[int, int] | None = None
    parts: Mapping[str, Stateful] = field(default_factory=dict)
    number: int = 0

    @property
    def stages(self) -> Mapping[int, str]:
        """First step → name of each stage."""
        return self.phases or {self.first: self.name}

    def stage_of(self, step: int) -> int:
        """The first step of the stage that ``step`` belongs to."""
        return max(first for first in self.stages if first <= step)

    def ends(self, done: int) -> bool:
        """Whether a stage is over once ``done`` steps of the run have been taken."""
        return done in self.stages or done == self.last

    @property
    def last_stage(self) -> int:
        """The first step of its last stage."""
        return max(self.stages)

    def position(self, step: int) -> float:
        """Where ``step`` lies on the schedule of the learning rate, 0..1."""
        begin, end = self.curve or (self.first, self.last)
        return (step - begin) / (end - begin)


class SectionSteps:
    """How the steps of one section are taken: rates, gradients under noise and with the goal, update, average.

    ``parts`` is what a checkpoint holds; options that are off add nothing to it, and cost nothing.
    """

    def __init__(
        self,
        setup: Setup,
        section: Section,
        algorithm: Algorithm,
        recipe: Recipe,
        options: TrainingOptions,
        goal: Distillation | None = None,
        ends_run: bool = False,
        called: nn.Module | None = None,
    ) -> None:
        """``ends_run``: whether the run ends with this section; its weights are averaged if the options ask for it.

        ``called``: what is called in the place of the model, see :func:`.parallel.averaging`.
        """
        model, optimizer = setup.model, section.optimizer
        self.called = model if called is None else called
        self.setup, self.section, self.algorithm = setup, section, algorithm
        self.recipe, self.options, self.goal, self.ends_run = recipe, options, goal, ends_run
        self.rates: list[float] = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.noise = QuantizationNoise(model, options.noise, setup.budget.seed) if options.noise < 1 else None
        rungs, first, last = options.inherit if ends_run else 0, section.first, section.last
        self.inheritance = Inheritance(model, rungs, first, last, algorithm.bits_changed) if rungs else None
        self.average = WeightAverage(model, options.ema) if ends_run and options.ema > 0 else None
        remedy, final = options.oscillation, section.last_stage
        if self.inheritance is not None:
            final = max(final, self.inheritance.last_start)
        watches = ends_run and remedy != "none"
        self.oscillation = Oscillation(model, remedy, final, last) if watches else None
        self.parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, **section.parts}
        added: dict[str, Stateful | None] = {
            "noise": self.noise,
            "inheritance": self.inheritance,
            "average": self.average,
            "oscillation": self.oscillation,
            "wire": setup.wire,
        }
        self.parts |= {name: part for name, part in added.items() if part is not None}

    def keep_rates(self) -> None:
        """Write down the rates of the schedule's beginning: checkpoints of earlier versions do not hold them."""
        for group, rate in zip(self.section.optimizer.param_groups, self.rates, strict=True):
            group["initial_lr"] = rate

    def progress_after(self, done: int, total: int) -> None:
        """The weights of distillation are those of the last of ``done`` steps until the next one is taken."""
        if self.goal is not None:
            self.goal.progress = max(0, done - 1) / total

    def take(self, step: Step) -> Loss:
        """Take one training step."""
        model, optimizer = self.setup.model, self.section.optimizer
        if self.goal is not None:
            self.goal.progress = step.fraction
        if self.inheritance is not None and self.inheritance.before_step(step.index) and self.average is not None:
            self.average.restart()
        if self.setup.wire is not None:
            self.setup.wire.step = step.index
        self.algorithm.before_step(step.index)
        # 1. The learning rate of this step, as a share of each parameter group's own
        share = self._share_of_rate(step.index)
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        # 2. Gradients of the loss, with some weights unquantized where there is noise
        model.train()
        if self.noise is not None:
            self.noise.draw()
        optimizer.zero_grad()
        result = train_step(self.setup.task, self.called, step.x, step.y, self.recipe, self.goal)
        self.algorithm.after_backward(step.index)
        if self.oscillation is not None:
            self.oscillation.before_update(step.index)
        # 3. The update, what the method holds fixed under it, and the average of what remains
        optimizer.step()
        self.algorithm.after_step(step.index)
        if self.oscillation is not None:
            self.oscillation.after_update(step.index)
        if self.average is not None:
            self.average.update()
        return result

    def _share_of_rate(self, step: int) -> float:
        """The learning rate of a step as a share of the schedule's beginning; the run's last stage may restart it.

        At each bit-width of bit inheritance the schedule begins anew.
        """
        kind, options, section = self.setup.budget.lr_schedule, self.options, self.section
        position = section.position(step)
        if self.ends_run and isinstance(options, StagedTrainingOptions) and options.lr_restart > 0:
            begin = section.position(section.last_stage)
            return restarted_rate(1.0, position, kind, options.lr_warmup, begin, options.lr_restart)
        if self.inheritance is not None:
            position = self.inheritance.position(step)
        return learning_rate(1.0, position, kind, options.lr_warmup)

    def store_average(self) -> None:
        """Put the average in the place of the weights, on the zeros and bit-widths of the last step."""
        if self.average is not None:
            self.average.store()
            self.algorithm.restore()

    def close(self) -> None:
        """Take the hooks of the noise away, after the run's last section those of distillation too."""
        if self.noise is not None:
            self.noise.remove()
        if self.goal is not None and self.ends_run:
            self.goal.close()
