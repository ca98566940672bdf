"""Prune, then quantize, as a method: remove units by magnitude, fine-tune, then train with fixed whole bit-widths."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field

from compression.asks import EqualActivationBits, EqualBits, QuantizerRate, Sparsity
from compression.budget import Budget
from compression.forecast import Forecast, Subject, even_pruning_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.options import Options, Real
from compression.pruning.choose import unit_bounds
from compression.pruning.removal import Removal
from compression.quant import quantize
from compression.quant.attach import quantizable_layers
from compression.quant.fixed_bits import FixedBits
from compression.quant.nearest import rounding, set_range
from compression.quant.tables import LayerTables
from compression.training.loop import make_optimizer, total_steps
from compression.training.recipe import Recipe
from compression.training.stage import plain_batches, recipe_for, train_stage

LEARNING_RATES = {"sgd": 0.05, "adam": 1e-2, "adamw": 1e-2}
LR_QUANT = 1e-3
CALIBRATION_BATCHES = 8
PRUNING, FINE_TUNING, QUANTIZATION = "pruning", "fine-tuning", "quantization"
SPARSITY, RATE = Sparsity(), QuantizerRate()
WEIGHT_BITS = EqualBits(field="weight_bits", default=8)
ACTIVATION_BITS = EqualActivationBits()


class SequentialOptions(Options):
    """What :class:`Sequential` can be told beside its sparsity and bits."""

    rounds: Literal[4, 1, 2, 8] = Field(
        4, description="In how many equal rounds the units are removed, with training in between."
    )
    norm: Literal["none", "group"] = Field(
        "none", description="Compare all units of the network directly, or each with the mean of its group."
    )
    quantization: Real = Field(
        0.5, ge=0.05, le=0.95, description="The share of the run that trains with quantized weights."
    )


@dataclass(frozen=True)
class Plan:
    """Stages in steps from 0: pruning up to ``pruned``, fine-tuning up to ``tuned``, both not included."""

    pruned: int
    tuned: int
    total: int
    rounds: int

    @classmethod
    def of(cls, total: int, quantization: float, rounds: int) -> Plan:
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
        total = total_steps(setup.data, budget.batch_size, budget.epochs)
        plan = Plan.of(total, options.quantization, options.rounds)
        layers = list(quantizable_layers(model))
        widths = WEIGHT_BITS.widths(budget.asks, budget.layers, layers), _activation_widths(budget, layers)
        removal = Removal(model, setup.graph, SPARSITY.value(budget.asks), unit_bounds(budget.groups), options.norm)
        report.plan(total, stages=plan.starts(), units=removal.total, removes=removal.target)
        if not removal.total:
            report.log("no unit of this model can be removed: it is only quantized")
        recipe = recipe_for(setup, report)
        recipe.prepare_model(model)
        torch.manual_seed(budget.seed)
        _prune(setup, report, recipe, removal, plan)
        _quantize(setup, report, recipe, removal, plan, *widths)
        return Compressed(model, _facts(removal, plan, recipe))


def _prune(setup: Setup, report: Reporter, recipe: Recipe, removal: Removal, plan: Plan) -> None:
    """The rounds of pruning, and training until the quantizers come."""
    budget = setup.budget
    base = learning_rate_of(budget)
    optimizer = make_optimizer(setup.model, budget.optimizer, base, budget.weight_decay)

    def round_due(step: int) -> None:
        removal.prune(plan.round_at(step), plan.rounds)

    for phase, first, last in ((PRUNING, 0, plan.pruned), (FINE_TUNING, plan.pruned, plan.tuned)):
        if last > first:
            train_stage(
                setup, report, recipe, optimizer, base, phase=phase, first=first, last=last,
                curve=(0, plan.tuned), before=round_due, after=lambda share: removal.hold(), parts={"removal": removal},
            )  # fmt: skip
    removal.prune(plan.rounds, plan.rounds)


def _quantize(
    setup: Setup, report: Reporter, recipe: Recipe, removal: Removal, plan: Plan,
    weight_bits: dict[str, int], activation_bits: dict[str, int] | None,
) -> None:  # fmt: skip
    """Quantizers with the least squared error on what is left, then training under them."""
    model, budget = setup.model, setup.budget
    held = attach(setup, report, weight_bits, activation_bits)
    removal.bind()
    base = learning_rate_of(budget)
    lr_quant = RATE.value(budget.asks) or LR_QUANT
    held.train(False)
    optimizer = make_optimizer(model, budget.optimizer, base, budget.weight_decay)
    held.train()

    def after(share: float) -> None:
        held.step(share * lr_quant)
        removal.hold()

    train_stage(
        setup, report, recipe, optimizer, base, phase=QUANTIZATION, first=plan.tuned, after=after,
        parts={"removal": removal},
    )  # fmt: skip


def attach(
    setup: Setup, report: Reporter, weight_bits: dict[str, int], activation_bits: dict[str, int] | None
) -> FixedBits:
    """Put quantizers on the pruned model; ranges of weights by least squared error, of activations by calibration."""
    model = setup.model
    tables = LayerTables.prepare(model)
    start = rounding(tables, {table.name: weight_bits[table.name] for table in tables.layers})
    batches = None
    if activation_bits is not None:
        batches = list(itertools.islice(plain_batches(setup, report), CALIBRATION_BATCHES))
    quantize(model, calibration=batches, calibration_range="percentile")
    for layer in start.layers:
        set_range(model, layer)
    return FixedBits(model, weight_bits, activation_bits)


def learning_rate_of(budget: Budget) -> float:
    """The learning rate at the beginning of both halves, GETA's unless the budget names one."""
    return LEARNING_RATES[budget.optimizer] if budget.lr is None else budget.lr


def _activation_widths(budget: Budget, layers: list[str]) -> dict[str, int] | None:
    if ACTIVATION_BITS.value(budget.asks) is None:
        return None
    return ACTIVATION_BITS.widths(budget.asks, budget.layers, layers)


def _facts(removal: Removal, plan: Plan, recipe: Recipe) -> dict[str, Any]:
    return {
        "units": removal.total,
        "removed": int(removal.removed.sum()),
        "removed_units": removal.removed_units,
        "stages": plan.starts(),
        "precision": recipe.precision,
        "why": recipe.why,
    }


METHOD = SEQUENTIAL = Sequential()
