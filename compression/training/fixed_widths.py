"""Training at whole bit-widths: quantizers that begin where nearest rounding has them, and whose ranges are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from compression.asks import EqualBits
from compression.budget import Budget
from compression.quant import quantize
from compression.quant.attach import quantizable_layers
from compression.quant.calibrate import CalibrationRange
from compression.quant.fixed_bits import FixedBits
from compression.quant.nearest import rounding, set_range
from compression.quant.tables import LayerTables
from compression.training.loop import COMPRESSING, LR_QUANT, base_rate, make_optimizer
from compression.training.preparation import calibration_batches
from compression.training.section import Algorithm
from compression.training.setup import Reporter, Setup


@dataclass(frozen=True)
class Widths:
    """Layer → the whole bit-width of its weight, and of its input (``None``: inputs stay in fp32)."""

    weights: Mapping[str, int]
    activations: Mapping[str, int] | None

    @classmethod
    def read(cls, model: nn.Module, budget: Budget, weights: EqualBits, activations: EqualBits) -> Self:
        """What a budget asks for, by the asks of its method.

        Raises:
            CompressionError: bounds of a layer that is not there.
        """
        layers = list(quantizable_layers(model))
        inputs = activations.value(budget.asks) is not None
        return cls(
            weights.widths(budget.asks, budget.layers, layers),
            activations.widths(budget.asks, budget.layers, layers) if inputs else None,
        )


def attach_nearest(
    setup: Setup,
    report: Reporter,
    widths: Widths,
    *,
    ranges: CalibrationRange,
    unsigned: bool,
    free_threshold: bool = False,
) -> FixedBits:
    """Put quantizers on a model; ranges of weights by least squared error, of activations by calibration.

    ``ranges``, ``unsigned`` and ``free_threshold`` are the options of these names. A weight that is 0 stays 0.
    """
    model, inputs = setup.model, widths.activations
    tables = LayerTables.prepare(model)
    quantize(
        model,
        calibration=None if inputs is None else calibration_batches(setup, report),
        calibration_range=ranges,
        range_bits=lambda layer: (inputs or {})[layer],
        exponent={layer for layer, width in widths.weights.items() if width == 2} if free_threshold else False,
        unsigned=setup.graph.nonnegative_inputs if unsigned else (),
    )
    fit_nearest(model, tables, widths.weights)
    return FixedBits(model, widths.weights, inputs)


def fit_nearest(model: nn.Module, tables: LayerTables, widths: Mapping[str, int]) -> None:
    """Give the quantizers on these weights the ranges at which rounding them to nearest has the least squared error."""
    for layer in rounding(tables, {table.name: widths[table.name] for table in tables.layers}).layers:
        set_range(model, layer)


@dataclass(frozen=True)
class FixedWidths(Algorithm):
    """Clipping bounds are trained at whole bit-widths, at the optimizer's share of ``base`` of the rate ``lr``.

    ``hold`` brings back to zero after every step what has to stay zero.
    """

    bits: FixedBits
    optimizer: torch.optim.Optimizer
    base: float
    lr: float
    hold: Callable[[], None]

    @classmethod
    def begin(cls, setup: Setup, bits: FixedBits, lr: float | None, hold: Callable[[], None]) -> Self:
        """With an optimizer of everything but the quantizers, as the budget asks for it; ``lr``: ``None``: the usual
        one.
        """
        budget = setup.budget
        rate = base_rate(budget, COMPRESSING)
        bits.train(False)
        optimizer = make_optimizer(setup.model, budget.optimizer, rate, budget.weight_decay)
        bits.train()
        return cls(bits, optimizer, rate, lr or LR_QUANT, hold)

    def after_step(self, step: int) -> None:
        """Train the clipping bounds, and hold at zero what has to stay there."""
        self.bits.step(self.optimizer.param_groups[0]["lr"] / self.base * self.lr)
        self.hold()

    def restore(self) -> None:
        """The averaged clipping bounds get the steps of their bit-widths."""
        self.bits.hold()

    def bits_changed(self) -> None:
        """Clipping bounds are trained at the present bit-widths from here on."""
        self.bits.read_bits()
