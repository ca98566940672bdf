"""The run of SBS: quantizers at their most bits, the search with gates, the decision, training of what was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compression.methods.sbs.asks import ACTIVATION_BITS
from compression.methods.sbs.goal import Goal
from compression.methods.sbs.layers import attach
from compression.methods.sbs.operations import Operations
from compression.methods.sbs.options import FINE_TUNING, RATE, SEARCH, Plan, SbsOptions
from compression.methods.sbs.paths import SharedPaths
from compression.methods.sbs.prices import Ledger
from compression.methods.sbs.search import Searching, report_decision
from compression.pruning.choose import UnitLimits, unit_bounds
from compression.pruning.removal import Removal
from compression.quant.attach import fit_ranges
from compression.training import parallel
from compression.training.loop import COMPRESSING, base_rate, make_optimizer
from compression.training.preparation import calibration_batches
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def run(setup: Setup, report: Reporter, options: SbsOptions) -> Compressed:
    """Compress ``setup.model`` in place within ``setup.budget``.

    Raises:
        CompressionError: the budget cannot be reached. RunFailed: training diverged.
    """
    model, budget, graph = setup.model, setup.budget, setup.graph
    trainer = Trainer(setup, report, options)
    plan = Plan.from_shares(trainer.total, options.search)
    goal = Goal.read(graph, model, budget, options)
    # 1. Quantizers at the most bits, on weights and, where the budget asks for it, on inputs
    batches = None if ACTIVATION_BITS.value(budget.asks) is None else calibration_batches(setup, report)
    nonnegative = frozenset(graph.nonnegative_inputs if options.unsigned else ())
    layers = attach(model, budget, options, batches, nonnegative)
    bounds = unit_bounds(budget.groups)
    removal = Removal(model, graph, goal.units, bounds)
    report.plan(trainer.total, stages=plan.starts(), units=removal.units.total, removes=goal.units.units)
    if not removal.units.total:
        report.log("no unit of this model can be removed: only bits are chosen")
    trainer.recipe.prepare_model(model)
    torch.manual_seed(budget.seed)

    def refit() -> None:
        fit_ranges(model, batches or [])
        parallel.take_first(model)

    limits = UnitLimits.from_groups(removal.units.sources, bounds)
    ledger = Ledger(Operations(graph), layers, removal.units.group_of)
    paths = SharedPaths(model, layers, removal, limits, ledger, goal, plan, options.strength, refit)
    # 2. The search, whose last step decides
    rate = base_rate(budget, COMPRESSING)
    lr = RATE.value(budget.asks) or rate
    if plan.last:
        optimizer = optimizer_of(setup, paths, rate)
        section = Section(SEARCH, optimizer, 0, plan.last, curve=(0, plan.total), parts={"paths": paths})
        trainer.train(section, Searching(paths, optimizer, rate, lr))
    else:
        report_decision(paths.settle(), 0, report, last=True)
    # 3. The chosen network, at a rate that begins anew
    optimizer = optimizer_of(setup, paths, rate)
    section = Section(FINE_TUNING, optimizer, plan.last, plan.total, parts={"paths": paths})
    trainer.train(section, Chosen(paths, optimizer, rate, lr))
    return Compressed(model, {**removal.units.facts(removal.removed), "stages": plan.starts(), **trainer.facts()})


def optimizer_of(setup: Setup, paths: SharedPaths, rate: float) -> torch.optim.Optimizer:
    """An optimizer of everything but the quantizers, whose steps are trained beside it."""
    budget = setup.budget
    paths.steps.train(False)
    optimizer = make_optimizer(setup.model, budget.optimizer, rate, budget.weight_decay)
    paths.steps.train()
    return optimizer


@dataclass(frozen=True)
class Chosen(Algorithm):
    """Steps are trained at the optimizer's share of ``base`` of the rate ``lr``; removed units stay 0."""

    paths: SharedPaths
    optimizer: torch.optim.Optimizer
    base: float
    lr: float

    def after_step(self, step: int) -> None:
        """Train steps, hold units."""
        self.paths.steps.step(self.optimizer.param_groups[0]["lr"] / self.base * self.lr)
        self.paths.removal.hold()

    def restore(self) -> None:
        """The averaged steps are positive, and clipping bounds are multiples of them."""
        self.paths.steps.hold()
