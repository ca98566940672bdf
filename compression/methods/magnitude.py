"""Magnitude pruning with equal bits: what an allocation of bits and zeros is worth, seen against doing without one.

The smallest weights of the whole network are set to zero, whatever layer they are in; every layer gets the same
bit-width and the step with the least squared error. Masks and steps stay fixed, norms are refitted, the rest is
fine-tuned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from compression.asks import WEIGHTS, EqualBits, Sparsity
from compression.budget import Budget
from compression.forecast import Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup
from compression.pruning.weight_options import Scope
from compression.training.options import TrainingOptions
from compression.training.setup import ALLOCATED_STAGES

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compression.quant.allocation import Allocation
    from compression.quant.tables import LayerTables

SPARSITY, WEIGHT_BITS = Sparsity(target=WEIGHTS), EqualBits()


class MagnitudeOptions(TrainingOptions):
    """What :class:`Magnitude` takes beside its sparsity and bits."""

    scope: Scope = "network"


class Magnitude(Method):
    """Global magnitude pruning of single weights, equal bits, fine-tuning with masks and steps fixed."""

    info = Info(
        name="magnitude",
        label="Magnitude",
        sentence="**Magnitude** sets the smallest weights of the network to zero and gives all layers the same bits.",
        family="unstructured",
        slot=3,
        lesson="waterline",
        stages=ALLOCATED_STAGES,
    )
    asks = (SPARSITY, WEIGHT_BITS)
    Config = MagnitudeOptions

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place: round(sparsity·N) weights to zero, ``bits`` for every layer.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        from compression.training.allocated import begin, train_allocated

        self.check_budget(setup.budget)
        trainer = begin(setup, report, self.options(setup.budget))
        allocation = self.allocation(Subject(setup.model, setup.graph), setup.budget)
        report.log(f"{allocation.pruned} of {allocation.numel} weights pruned, the smallest ones")
        return train_allocated(trainer, allocation)

    def allocation(self, subject: Subject, budget: Budget) -> Allocation:
        """The smallest weights at zero, and equal bits for the others.

        Raises:
            CompressionError: an unknown option, or bounds that cannot be met.
        """
        return _smallest(subject.tables(), self.bounded(budget, subject.graph))

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Set the smallest weights of ``model`` to zero and fix masks and steps, in place."""
        from compression.quant.fixed_steps import attach
        from compression.quant.tables import LayerTables

        self.check_own_loop(budget)
        return attach(model, _smallest(LayerTables.prepare(model), budget))


def _smallest(tables: LayerTables, budget: Budget) -> Allocation:
    from compression.pruning.weights import smallest_weights

    options: MagnitudeOptions = METHOD.options(budget)
    widths = WEIGHT_BITS.widths(budget.asks, budget.layers, [table.name for table in tables.layers])
    return smallest_weights(tables, SPARSITY.value(budget.asks), budget.layers, widths, options.scope)


METHOD = MAGNITUDE = Magnitude()
