"""The run of prune, then quantize: rounds of removal with training between, then training at fixed bit-widths."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from compression.methods.sequential.options import (
    ACTIVATION_BITS,
    FINE_TUNING,
    PRUNING,
    QUANTIZATION,
    RATE,
    WEIGHT_BITS,
    Plan,
    SequentialOptions,
)
from compression.pruning.choose import unit_bounds
from compression.pruning.removal import Removal
from compression.pruning.target import unit_target
from compression.training.fixed_widths import FixedWidths, Widths, attach_nearest
from compression.training.loop import COMPRESSING, base_rate, make_optimizer
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def run(setup: Setup, report: Reporter, options: SequentialOptions) -> Compressed:
    """Compress ``setup.model`` in place within ``setup.budget``.

    Raises:
        CompressionError: the budget cannot be reached. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    widths = Widths.read(model, budget, WEIGHT_BITS, ACTIVATION_BITS)
    trainer = Trainer(setup, report, options)
    plan = Plan.from_shares(trainer.total, options.quantization, options.rounds)
    bounds = unit_bounds(budget.groups)
    target = unit_target(setup.graph, budget, WEIGHT_BITS, ACTIVATION_BITS)
    removal = Removal(model, setup.graph, target, bounds, options.norm, options, trainer.passes)
    units = removal.units.total
    report.plan(trainer.total, stages=plan.starts(), units=units, removes=removal.target.units)
    if not units:
        report.log("no unit of this model can be removed: it is only quantized")
    trainer.recipe.prepare_model(model)
    torch.manual_seed(budget.seed)
    _prune(trainer, removal, plan)
    _quantize(trainer, removal, plan, widths, options)
    return Compressed(model, {**removal.units.facts(removal.removed), "stages": plan.starts(), **trainer.facts()})


@dataclass
class Pruning(Algorithm):
    """The rounds in which units are removed; what is removed is held at zero."""

    removal: Removal
    plan: Plan
    removed: dict[str, list[int]] = field(default_factory=dict)

    def before_step(self, step: int) -> None:
        """Carry out the round that is due."""
        self.removed = self.removal.prune(self.plan.round_at(step), self.plan.rounds)

    def after_step(self, step: int) -> None:
        """Momentum and decay must not bring removed units back."""
        self.removal.hold()

    def report(self, step: int, report: Reporter) -> None:
        """Which units the round took."""
        if self.removed:
            report.decision(step + 1, removed=self.removed)


def _prune(trainer: Trainer, removal: Removal, plan: Plan) -> None:
    """The rounds of pruning, and training until the quantizers come."""
    budget = trainer.setup.budget
    rate = base_rate(budget, COMPRESSING)
    optimizer = make_optimizer(trainer.setup.model, budget.optimizer, rate, budget.weight_decay)
    for phase, first, end in ((PRUNING, 0, plan.pruned), (FINE_TUNING, plan.pruned, plan.tuned)):
        if end > first:
            section = Section(phase, optimizer, first, end, curve=(0, plan.tuned), parts={"removal": removal})
            trainer.train(section, Pruning(removal, plan))
    last = removal.prune(plan.rounds, plan.rounds)
    if last and trainer.report.saved is None:  # else the checkpoint says what is removed
        trainer.report.decision(plan.tuned, removed=last)


def _quantize(trainer: Trainer, removal: Removal, plan: Plan, widths: Widths, options: SequentialOptions) -> None:
    """Quantizers with the least squared error on the weights that remain, then training under them."""
    setup = trainer.setup
    bits = attach_nearest(
        setup,
        trainer.report,
        widths,
        ranges=options.ranges,
        unsigned=options.unsigned,
        free_threshold=options.free_threshold,
    )
    removal.bind()
    algorithm = FixedWidths.begin(setup, bits, RATE.value(setup.budget.asks), removal.hold)
    section = Section(QUANTIZATION, algorithm.optimizer, plan.tuned, plan.total, parts={"removal": removal})
    trainer.train(section, algorithm)
