"""The run of HESSO: one training in which units fade period by period, then quantizers at nearest rounding."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from compression.methods.hesso.options import (
    ACTIVATION_BITS,
    FADING,
    FINE_TUNING,
    ROUNDING,
    WARM_UP,
    WEIGHT_BITS,
    HessoOptions,
    Plan,
)
from compression.pruning.choose import unit_bounds
from compression.pruning.fading import Fading
from compression.pruning.removal import Removal
from compression.pruning.target import unit_target
from compression.training.fixed_widths import Widths, attach_nearest
from compression.training.loop import COMPRESSING, base_rate, make_optimizer
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def run(setup: Setup, report: Reporter, options: HessoOptions) -> Compressed:
    """Compress ``setup.model`` in place within ``setup.budget``.

    Raises:
        CompressionError: the budget cannot be reached. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    widths = Widths.read(model, budget, WEIGHT_BITS, ACTIVATION_BITS)
    trainer = Trainer(setup, report, options)
    plan = Plan.from_shares(trainer.total, options.warm_up, options.fading)
    target = unit_target(setup.graph, budget, WEIGHT_BITS, ACTIVATION_BITS)
    removal = Removal(model, setup.graph, target, unit_bounds(budget.groups), options=options, lasting=True)
    report.plan(trainer.total, stages=plan.starts(), units=removal.units.total, removes=target.units)
    if not removal.units.total:
        report.log("no unit of this model can be removed: it is only rounded")
    trainer.recipe.prepare_model(model)
    torch.manual_seed(budget.seed)
    fading = Fading(removal, plan.first, plan.last, options.periods)
    if fading.periods < options.periods:
        report.log(f"a short run: periods {fading.periods} instead of {options.periods}")
    optimizer = make_optimizer(model, budget.optimizer, base_rate(budget, COMPRESSING), budget.weight_decay)
    phases = {first: stage for stage, first in plan.starts().items() if stage in (WARM_UP, FADING, FINE_TUNING)}
    section = Section("training", optimizer, 0, plan.total, phases=phases, parts={"fading": fading})
    trainer.train(section, FadingUnits(fading))
    report.phase(ROUNDING, plan.total, budget.epochs)
    attach_nearest(setup, report, widths, ranges=options.ranges, unsigned=options.unsigned)
    trainer.finish(ROUNDING)
    return Compressed(model, {**removal.units.facts(removal.removed), "stages": plan.starts(), **trainer.facts()})


@dataclass
class FadingUnits(Algorithm):
    """Units are chosen when the gradients of a period's first step are complete, and fade after each update."""

    fading: Fading
    chosen: list[int] = field(default_factory=list)

    def after_backward(self, step: int) -> None:
        """Score, and choose at the beginning of a period."""
        self.chosen = self.fading.observe(step)

    def after_step(self, step: int) -> None:
        """Redundant units fade; momentum and decay must not bring removed ones back."""
        self.fading.shrink(step)

    def report(self, step: int, report: Reporter) -> None:
        """Which units were chosen, by which scores, and when they will be gone."""
        if self.chosen:
            report.log(f"{len(self.chosen)} units fade from step {step + 1} on")
            units = self.fading.removal.units.named_numbers(self.chosen)
            chosen = {group: [[unit, None] for unit in numbers] for group, numbers in units.items()}
            report.decision(step + 1, chosen=chosen, until=self.fading.end(step))
