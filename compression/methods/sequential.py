"""Prune, then quantize, as a method: remove units by magnitude, fine-tune, then train with fixed whole bit-widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from compression.asks import EqualActivationBits, EqualBits, QuantizerRate, Sparsity
from compression.budget import Budget
from compression.forecast import Forecast, Subject, even_pruning_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.options import Real
from compression.pruning.choose import unit_bounds
from compression.pruning.removal import Removal
from compression.pruning.saliency import RMS
from compression.pruning.scores import Cost, Criteria, UnitOptions
from compression.quant import quantize
from compression.quant.attach import quantizable_layers
from compression.quant.fixed_bits import FixedBits
from compression.quant.nearest import rounding, set_range
from compression.quant.tables import LayerTables
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate, make_optimizer
from compression.training.options import TrainingOptions
from compression.training.preparation import calibration_batches
from compression.training.trainer import Algorithm, Section, Trainer

PRUNING, FINE_TUNING, QUANTIZATION = "pruning", "fine-tuning", "quantization"
SPARSITY, RATE = Sparsity(), QuantizerRate()
WEIGHT_BITS = EqualBits(field="weight_bits", default=8)
ACTIVATION_BITS = EqualActivationBits()


class SequentialOptions(UnitOptions, TrainingOptions):
    """What :class:`Sequential` takes beside its sparsity and bits."""

    rounds: Literal[4, 1, 2, 8] = Field(
        4, description="In how many equal rounds the units are removed, with training in between."
    )
    norm: Literal["none", "group"] = Field(
        "none", description="Compare all units of the network directly, or each with the mean of its group."
    )
    quantization: Real = Field(
        0.5, ge=0.05, le=0.95, description="The share of the run that trains with quantized weights."
    )
    criteria: Criteria = Field(default_factory=lambda: {RMS: 1.0})
    cost: Cost = "none"


@dataclass(frozen=True)
class Plan:
    """Stages in steps from 0: pruning up to ``pruned``, fine-tuning up to ``tuned``, both not included."""

    pruned: int
    tuned: int
    total: int
    rounds: int

    @classmethod
    def from_shares(cls, total: int, quantization: float, rounds: int) -> Plan:
        """The last share goes to quantization (at least one step), half of what is before it to pruning."""
        tuned = total - max(1, round(quantization * total))
        pruned = (tuned + 1) // 2
        return cls(pruned, tuned, total, max(1, min(rounds, pruned)))

    def starts(self) -> dict[str, int]:
        """Stage → its first step, for the stages that have any."""
        spans = {
            PRUNING: (0, self.pruned),
            FINE_TUNING: (self.pruned, self.tuned),
            QUANTIZATION: (self.tuned, self.total),
        }
        return {name: first for name, (first, last) in spans.items() if last > first}

    def round_at(self, step: int) -> int:
        """How many rounds have been carried out when ``step`` is taken; they come evenly, the first before step 0."""
        if step >= self.pruned:
            return self.rounds
        return 1 + step * self.rounds // self.pruned


class Sequential(Method):
    """Structured pruning by group magnitude, fine-tuning, then quantization-aware training: one after the other."""

    info = Info(
        name="sequential",
        label="Prune, then quantize",
        sentence="**Prune, then quantize** removes the smallest channels and trains, then trains on with rounded "
        "weights: one after the other.",
        family="structured",
        slot=2,
        stages=(
            Stage(PRUNING, "Pruning", 2),
            Stage(FINE_TUNING, "Fine-tuning", 3),
            Stage(QUANTIZATION, "Quantization", 1),
        ),
    )
    asks = (SPARSITY, WEIGHT_BITS, ACTIVATION_BITS, RATE)
    Config = SequentialOptions

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """K units spread evenly, whole bits: which units, only the run decides.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        return even_pruning_forecast(subject, budget, SPARSITY.value(budget.asks), WEIGHT_BITS, ACTIVATION_BITS)

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place: ⌊sparsity·N⌋ units, the upper end of ``weight_bits`` for every layer.

        Raises:
            CompressionError: the budget cannot be reached. RunFailed: training diverged.
        """
        model, budget = setup.model, setup.budget
        self.check_budget(budget)
        options: SequentialOptions = self.options(budget)
        layers = list(quantizable_layers(model))
        weight_bits = WEIGHT_BITS.widths(budget.asks, budget.layers, layers)
        activations = ACTIVATION_BITS.value(budget.asks) is not None
        activation_bits = ACTIVATION_BITS.widths(budget.asks, budget.layers, layers) if activations else None
        trainer = Trainer(setup, report, options)
        plan = Plan.from_shares(trainer.total, options.quantization, options.rounds)
        bounds = unit_bounds(budget.groups)
        removal = Removal(
            model, setup.graph, SPARSITY.value(budget.asks), bounds, options.norm, options, trainer.passes
        )
        units = removal.units.total
        report.plan(trainer.total, stages=plan.starts(), units=units, removes=removal.target)
        if not units:
            report.log("no unit of this model can be removed: it is only quantized")
        trainer.recipe.prepare_model(model)
        torch.manual_seed(budget.seed)
        _prune(trainer, removal, plan)
        _quantize(trainer, removal, plan, weight_bits, activation_bits)
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
) -> None:
    """Quantizers with the least squared error on the weights that remain, then training under them."""
    setup, budget = trainer.setup, trainer.setup.budget
    bits = attach(setup, trainer.report, weight_bits, activation_bits)
    removal.bind()
    rate = base_rate(budget, COMPRESSING)
    bits.train(False)
    optimizer = make_optimizer(setup.model, budget.optimizer, rate, budget.weight_decay)
    bits.train()
    algorithm = FixedWidths(removal, bits, optimizer, rate, RATE.value(budget.asks) or LR_QUANT)
    section = Section(QUANTIZATION, optimizer, plan.tuned, plan.total, parts={"removal": removal})
    trainer.train(section, algorithm)


def attach(
    setup: Setup, report: Reporter, weight_bits: dict[str, int], activation_bits: dict[str, int] | None
) -> FixedBits:
    """Put quantizers on the pruned model; ranges of weights by least squared error, of activations by calibration."""
    model = setup.model
    tables = LayerTables.prepare(model)
    start = rounding(tables, {table.name: weight_bits[table.name] for table in tables.layers})
    batches = None if activation_bits is None else calibration_batches(setup, report)
    quantize(model, calibration=batches, calibration_range="percentile")
    for layer in start.layers:
        set_range(model, layer)
    return FixedBits(model, weight_bits, activation_bits)


METHOD = SEQUENTIAL = Sequential()
