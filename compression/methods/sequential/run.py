"""The run of prune, then quantize: rounds of removal with training between, then training at fixed bit-widths."""

from __future__ import annotations

from dataclasses import dataclass

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
from compression.quant import quantize
from compression.quant.attach import quantizable_layers
from compression.quant.fixed_bits import FixedBits
from compression.quant.nearest import rounding, set_range
from compression.quant.tables import LayerTables
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate, make_optimizer
from compression.training.preparation import calibration_batches
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm, Section, Trainer


def run(setup: Setup, report: Reporter, options: SequentialOptions) -> Compressed:
    """Compress ``setup.model`` in place within ``setup.budget``.

    Raises:
        CompressionError: the budget cannot be reached. RunFailed: training diverged.
    """
    model, budget = setup.model, setup.budget
    layers = list(quantizable_layers(model))
    weight_bits = WEIGHT_BITS.widths(budget.asks, budget.layers, layers)
    activations = ACTIVATION_BITS.value(budget.asks) is not None
    activation_bits = ACTIVATION_BITS.widths(budget.asks, budget.layers, layers) if activations else None
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
    _quantize(trainer, removal, plan, weight_bits, activation_bits, options)
    return Compressed(model, {**removal.units.facts(removal.removed), "stages": plan.starts(), **trainer.facts()})


@dataclass(frozen=True)
class Pruning(Algorithm):
    """The rounds in which units are removed; what is removed is held at zero."""

    removal: Removal
    plan: Plan

    def before_step(self, step: int) -> None:
        """Carry out the round that is due."""
        self.removal.prune(self.plan.round_at(step), self.plan.rounds)

    def after_step(self, step: int) -> None:
        """Momentum and decay must not bring removed units back."""
        self.removal.hold()


@dataclass(frozen=True)
class FixedWidths(Algorithm):
    """Clipping bounds are trained at whole bit-widths, at the optimizer's share of ``base`` of the rate ``lr``."""

    removal: Removal
    bits: FixedBits
    optimizer: torch.optim.Optimizer
    base: float
    lr: float

    def after_step(self, step: int) -> None:
        """Train the clipping bounds, and hold removed units at zero."""
        self.bits.step(self.optimizer.param_groups[0]["lr"] / self.base * self.lr)
        self.removal.hold()

    def restore(self) -> None:
        """The averaged clipping bounds get the steps of their bit-widths."""
        self.bits.hold()


def _prune(trainer: Trainer, removal: Removal, plan: Plan) -> None:
    """The rounds of pruning, and training until the quantizers come."""
    budget = trainer.setup.budget
    rate = base_rate(budget, COMPRESSING)
    optimizer = make_optimizer(trainer.setup.model, budget.optimizer, rate, budget.weight_decay)
    for phase, first, last in ((PRUNING, 0, plan.pruned), (FINE_TUNING, plan.pruned, plan.tuned)):
        if last > first:
            section = Section(phase, optimizer, first, last, curve=(0, plan.tuned), parts={"removal": removal})
            trainer.train(section, Pruning(removal, plan))
    removal.prune(plan.rounds, plan.rounds)


def _quantize(
    trainer: Trainer,
    removal: Removal,
    plan: Plan,
    weight_bits: dict[str, int],
    activation_bits: dict[str, int] | None,
    options: SequentialOptions,
) -> None:
    """Quantizers with the least squared error on the weights that remain, then training under them."""
    setup, budget = trainer.setup, trainer.setup.budget
    bits = attach(setup, trainer.report, weight_bits, activation_bits, options)
    removal.bind()
    rate = base_rate(budget, COMPRESSING)
    bits.train(False)
    optimizer = make_optimizer(setup.model, budget.optimizer, rate, budget.weight_decay)
    bits.train()
    algorithm = FixedWidths(removal, bits, optimizer, rate, RATE.value(budget.asks) or LR_QUANT)
    section = Section(QUANTIZATION, optimizer, plan.tuned, plan.total, parts={"removal": removal})
    trainer.train(section, algorithm)


def attach(
    setup: Setup,
    report: Reporter,
    weight_bits: dict[str, int],
    activation_bits: dict[str, int] | None,
    options: SequentialOptions,
) -> FixedBits:
    """Put quantizers on the pruned model; ranges of weights by least squared error, of activations by calibration."""
    model = setup.model
    tables = LayerTables.prepare(model)
    start = rounding(tables, {table.name: weight_bits[table.name] for table in tables.layers})
    batches = None if activation_bits is None else calibration_batches(setup, report)
    widths = activation_bits or {}
    quantize(
        model,
        calibration=batches,
        calibration_range=options.ranges,
        range_bits=lambda layer: widths[layer],
        exponent={layer for layer, width in weight_bits.items() if width == 2} if options.free_threshold else False,
        unsigned=setup.graph.nonnegative_inputs if options.unsigned else (),
    )
    for layer in start.layers:
        set_range(model, layer)
    return FixedBits(model, weight_bits, activation_bits)
