"""The training loop of all trained methods: one section of a run after the other, with points on the way.

A method makes a :class:`Trainer` of its dense network, and lets it take the steps; what is particular to the method is
an :class:`Algorithm`, which the loop calls::

    trainer = Trainer(setup, report, options)
    ...                                                        # quantizers are attached, units are chosen
    trainer.train(Section("fine-tuning", optimizer, 0, trainer.total), algorithm)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from compression.data import Batches
from compression.quant.kernels import COMPILED, compile_kernels
from compression.quant.quantizer import Quantizer
from compression.training import parallel
from compression.training.distill import distillation
from compression.training.loop import check_finite, steps, total_steps, train_step
from compression.training.measure import curve_images, report_point
from compression.training.options import TrainingOptions
from compression.training.preparation import recalibrate, recipe_for
from compression.training.resume import captured, go_on
from compression.training.section import Algorithm, Section, SectionSteps
from compression.training.setup import Reporter, Setup

__all__ = ["Algorithm", "Section", "Trainer"]

POINTS = 24  # measured over a whole run


class Trainer:
    """Takes the steps of one run under the options that all trained methods share.

    Make it before the network is changed: the teacher of distillation is a copy of ``setup.model`` as it is then.
    """

    def __init__(self, setup: Setup, report: Reporter, options: TrainingOptions) -> None:
        budget = setup.budget
        self.setup, self.report, self.options = setup, report, options
        self.total = total_steps(setup.data, budget.batch_size, budget.epochs)
        self.measured = {round((i + 1) * self.total / POINTS) for i in range(POINTS)}
        self.recipe = recipe_for(setup, report)
        self.goal = distillation(setup, self.recipe, options)

    def steps_of(self, section: Section, algorithm: Algorithm) -> SectionSteps:
        """How the steps of a section are taken; weights are averaged in the section that ends the run."""
        ends = section.last == self.total
        called = parallel.averaging(self.setup.task, self.setup.model, self.setup.wire)
        return SectionSteps(self.setup, section, algorithm, self.recipe, self.options, self.goal, ends, called)

    def train(self, section: Section, algorithm: Algorithm | None = None) -> None:
        """Take the steps of a section; in an interrupted run those after its checkpoint, none if it was over.

        Where quantizers are trained, their kernels are compiled first, which switches the whole process to them
        (:func:`compression.quant.kernels.compile_kernels`). After the run's last step the weights become their average
        and norms are recalibrated, if the options say so.

        Raises:
            RunFailed: training diverged. CompressionError: the checkpoint does not fit.
        """
        algorithm, report, budget = algorithm or Algorithm(), self.report, self.setup.budget
        if any(isinstance(module, Quantizer) for module in self.setup.model.modules()):
            report.log(compile_kernels(self.setup.device, self.total) or COMPILED)
        sequence = self.steps_of(section, algorithm)
        start = go_on(report, section.name, sequence.parts, section.first, section.last)
        if start is None:
            sequence.close()
            return
        sequence.keep_rates()
        sequence.progress_after(start, self.total)
        if start > section.first:
            self._report_stage(section, start - 1)
        for step in steps(
            self.setup.data, budget.batch_size, budget.epochs, budget.seed, start=start, device=self.setup.device
        ):
            if step.index >= section.last:
                break
            report.check()
            if step.index in section.stages:
                self._report_stage(section, step.index)
            loss, score = sequence.take(step)
            if sequence.inheritance is not None and step.index in sequence.inheritance.starts:
                report.log(str(sequence.inheritance))
            lr, done = section.optimizer.param_groups[0]["lr"], step.index + 1
            report.step(done, self._epoch(done), loss=loss, score=score, lr=lr)
            algorithm.report(step.index, report)
            if done == self.total:
                if sequence.oscillation is not None:
                    report.log(str(sequence.oscillation))
                sequence.store_average()
                recalibrate(self.setup, self.recipe, self.options.recalibrate, report)
            if done in self.measured or section.ends(done):
                self._measure(section, done)
            capture = partial(captured, section.name, done, self.recipe, sequence.parts)
            report.checkpoint(done, capture, due=section.ends(done))
        sequence.close()
        check_finite(self.setup.model)
        parallel.check_same(self.setup.model)
        parallel.take_first(self.setup.model)

    def passes(self, count: int) -> Iterator[None]:
        """Leaves the loss's gradients over one more training batch on the parameters each time; nothing is trained.

        The model is in evaluation mode meanwhile, so that no statistics change and no random numbers are drawn.
        """
        model, budget = self.setup.model.eval(), self.setup.budget
        called = parallel.averaging(self.setup.task, model)
        size, seed, device, part = budget.batch_size, budget.seed, self.setup.device, parallel.part()
        batches = Batches(self.setup.data, "train", size, seed=seed, augment=False, device=device, part=part)
        for index in range(count):
            self.report.check()
            model.zero_grad()
            x, y = batches.batch(index // len(batches), index % len(batches))
            train_step(self.setup.task, called, x, y, self.recipe, self.goal)
            yield
        model.zero_grad()

    def finish(self, phase: str) -> None:
        """The network was changed after the last step: statistics of norms anew, if the options say so, and the point
        that counts.
        """
        recalibrate(self.setup, self.recipe, self.options.recalibrate, self.report)
        parallel.take_first(self.setup.model)
        self._report_point(self.total, phase)

    def facts(self) -> dict[str, Any]:
        """What a result stores of how it was trained: JSON values."""
        options = self.options.model_dump(mode="json")
        return {"precision": self.recipe.precision, "why": self.recipe.why, "options": options}

    def _epoch(self, step: int) -> float:
        return step * self.setup.budget.epochs / self.total

    def _report_stage(self, section: Section, step: int) -> None:
        """The stage that ``step`` belongs to, and where it begins."""
        first = section.stage_of(step)
        self.report.phase(section.stages[first], first + section.number, self._epoch(first))

    def _measure(self, section: Section, done: int) -> None:
        self._report_point(done, section.stages[section.stage_of(done - 1)])

    def _report_point(self, done: int, phase: str) -> None:
        """The run's last point counts all validation images: settings are chosen by it."""
        if parallel.rank() > 0:
            return
        limit = None if done == self.total else curve_images(self.setup.graph)
        where = {"step": done, "epoch": self._epoch(done), "phase": phase}
        report_point(self.setup, self.report, self.setup.model, **where, limit=limit)
