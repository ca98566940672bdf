"""Prune, then quantize, as a method: remove units by magnitude, fine-tune, then train with fixed whole bit-widths."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch

from compression.budget import Budget
from compression.methods.base import Compressed, Reporter, Task, Uses
from compression.methods.geta.method import LEARNING_RATES, LR_QUANT
from compression.methods.options import Option, resolved
from compression.methods.widths import activation_widths, bits_in_words, weight_widths
from compression.pruning.removal import NORMS, Removal
from compression.quant import quantize
from compression.quant.attach import quantizable_layers
from compression.quant.fixed_bits import FixedBits
from compression.quant.nearest import rounding, set_range
from compression.quant.tables import LayerTables
from compression.training.loop import make_optimizer, total_steps
from compression.training.recipe import Recipe
from compression.training.stage import plain_batches, recipe_for, train_stage

CALIBRATION_BATCHES = 8
PRUNING, FINE_TUNING, QUANTIZATION = "pruning", "fine-tuning", "quantization"
OPTIONS = (
    Option(
        "rounds", 4, "In how many equal rounds the units are removed, with training in between.", choices=(4, 1, 2, 8)
    ),
    Option(
        "norm",
        NORMS[0],
        "Compare all units of the network directly, or each with the mean of its group.",
        choices=NORMS,
    ),
    Option("quantization", 0.5, "The share of the run that trains with quantized weights.", choices=(0.5, 0.25, 0.75)),
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


class Sequential:
    """Structured pruning by group magnitude, fine-tuning, then quantization-aware training: one after the other."""

    name = "sequential"
    label = "Prune, then quantize"
    summary = "Removes the smallest units, fine-tunes, then trains with fixed bit-widths: one step after the other."
    structured = True
    uses = Uses(bits="equal", activations=True)
    options = OPTIONS

    def check(self, budget: Budget) -> None:
        """Refuse unknown options and impossible values.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        resolved(budget, OPTIONS, self.name)

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Compress ``task.model`` in place: ⌊sparsity·N⌋ units, the upper end of ``weight_bits`` for every layer.

        Raises:
            CompressionError: the budget cannot be reached. RunFailed: training diverged.
        """
        model, budget = task.model, task.budget
        chosen = resolved(budget, OPTIONS, self.name)
        total = total_steps(task.data, budget.batch_size, budget.epochs)
        plan = Plan.of(total, chosen["quantization"], chosen["rounds"])
        layers = list(quantizable_layers(model))
        widths = weight_widths(budget, layers, structured=True), activation_widths(budget, layers)
        removal = Removal(model, task.graph, budget.sparsity, _bounds(budget), chosen["norm"])
        report.plan(total, stages=plan.starts(), units=removal.total, removes=removal.target)
        _tell(budget, report, removal)
        recipe = recipe_for(task, report)
        recipe.prepare_model(model)
        torch.manual_seed(budget.seed)
        _prune(task, report, recipe, removal, plan)
        _quantize(task, report, recipe, removal, plan, *widths)
        return Compressed(model, _facts(removal, plan, recipe))


def _prune(task: Task, report: Reporter, recipe: Recipe, removal: Removal, plan: Plan) -> None:
    """The rounds of pruning, and training until the quantizers come."""
    budget = task.budget
    base = learning_rate_of(budget)
    optimizer = make_optimizer(task.model, budget.optimizer, base, budget.weight_decay)

    def round_due(step: int) -> None:
        removal.prune(plan.round_at(step), plan.rounds)

    for phase, first, last in ((PRUNING, 0, plan.pruned), (FINE_TUNING, plan.pruned, plan.tuned)):
        if last > first:
            train_stage(
                task, report, recipe, optimizer, base, phase=phase, first=first, last=last,
                curve=(0, plan.tuned), before=round_due, after=lambda share: removal.hold(), parts={"removal": removal},
            )  # fmt: skip
    removal.prune(plan.rounds, plan.rounds)


def _quantize(
    task: Task, report: Reporter, recipe: Recipe, removal: Removal, plan: Plan,
    weight_bits: dict[str, int], activation_bits: dict[str, int] | None,
) -> None:  # fmt: skip
    """Quantizers with the least squared error on what is left, then training under them."""
    model, budget = task.model, task.budget
    held = attach(task, report, weight_bits, activation_bits)
    removal.bind()
    base = learning_rate_of(budget)
    lr_quant = LR_QUANT if budget.lr_quant is None else budget.lr_quant
    held.train(False)
    optimizer = make_optimizer(model, budget.optimizer, base, budget.weight_decay)
    held.train()

    def after(share: float) -> None:
        held.step(share * lr_quant)
        removal.hold()

    train_stage(
        task, report, recipe, optimizer, base, phase=QUANTIZATION, first=plan.tuned, after=after,
        parts={"removal": removal},
    )  # fmt: skip


def attach(
    task: Task, report: Reporter, weight_bits: dict[str, int], activation_bits: dict[str, int] | None
) -> FixedBits:
    """Put quantizers on the pruned model; ranges of weights by least squared error, of activations by calibration."""
    model = task.model
    tables = LayerTables.prepare(model)
    start = rounding(tables, {table.name: weight_bits[table.name] for table in tables.layers})
    batches = None
    if activation_bits is not None:
        batches = list(itertools.islice(plain_batches(task, report), CALIBRATION_BATCHES))
    quantize(model, calibration=batches, calibration_range="percentile")
    for layer in start.layers:
        set_range(model, layer)
    return FixedBits(model, weight_bits, activation_bits)


def learning_rate_of(budget: Budget) -> float:
    """The learning rate at the beginning of both halves, GETA's unless the budget names one."""
    return LEARNING_RATES[budget.optimizer] if budget.lr is None else budget.lr


def _bounds(budget: Budget) -> dict[str, tuple[float, float]]:
    pairs = {name: bounds["sparsity"] for name, bounds in budget.groups.items() if "sparsity" in bounds}
    return {name: (float(low), float(high)) for name, (low, high) in pairs.items()}


def _tell(budget: Budget, report: Reporter, removal: Removal) -> None:
    report.log(bits_in_words(budget, structured=True))
    if not removal.total:
        report.log("no unit of this model can be removed: it is only quantized")
    named = [layer for layer, bounds in budget.layers.items() if "sparsity" in bounds]
    if named:
        report.log(f"units of groups are removed: the weight sparsity of layer {', '.join(named)} is not used")


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
