"""What is to be reached: units or MACs with the bit operations of a mean width, or a share of the BOPs by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from compression.asks import BOPS_SAVED, BitsAsk
from compression.budget import Budget
from compression.counting.cost import Bits, inputs_in_float
from compression.graph.types import Graph
from compression.methods.sbs.asks import ACTIVATION_BITS, WEIGHT_BITS
from compression.methods.sbs.operations import Operations
from compression.methods.sbs.options import SbsOptions
from compression.pruning.target import CostShare, UnitTarget, unit_target
from compression.quant.attach import quantizable_layers


@dataclass(frozen=True)
class Goal:
    """``units``: how many units go; ``share``: of the BOPs that remains, where that is asked for.

    ``mean``: layer → (weight bits, input bits) whose operations are not exceeded where it is not.
    """

    units: UnitTarget
    share: float | None
    mean: Mapping[str, tuple[float, float]]

    @classmethod
    def read(cls, graph: Graph, model: nn.Module, budget: Budget, options: SbsOptions) -> Goal:
        """What a budget asks for.

        Raises:
            CompressionError: asks that contradict each other.
        """
        mean = mean_widths(graph, model, budget, options.mean_bits)
        saved = BOPS_SAVED.value(budget.asks)
        if saved is None:
            return cls(unit_target(graph, budget, WEIGHT_BITS, ACTIVATION_BITS), None, mean)
        return cls(CostShare(graph, BOPS_SAVED.field, saved, fewest_bits(graph, model, budget)), 1 - saved, mean)

    @property
    def counts_units(self) -> bool:
        """Whether the number of units, or what they save, is asked for by itself."""
        return self.share is None

    def target(self, operations: Operations, removed: Sequence[int]) -> float:
        """The most bit operations that may remain, where so many units of each group are removed."""
        if self.share is not None:
            return self.share * operations.dense
        weights, inputs = (operations.bits({name: pair[i] for name, pair in self.mean.items()}) for i in (0, 1))
        return operations.total(removed, weights, inputs)


def _limits(graph: Graph, model: nn.Module, budget: Budget, ask: BitsAsk) -> dict[str, tuple[float, float]]:
    """Layer → the fewest and the most bits, (32, 32) where it is not quantized."""
    layers, in_float = quantizable_layers(model), inputs_in_float(graph)
    skipped = {layer.name for layer in graph.layers if layer.name not in layers}
    skipped |= in_float if ask is ACTIVATION_BITS else set()
    limits = {layer.name: ask.layer_limits(budget.asks, budget.layers, layer.name) for layer in graph.layers}
    return {name: (32.0, 32.0) if name in skipped or pair is None else pair for name, pair in limits.items()}


def fewest_bits(graph: Graph, model: nn.Module, budget: Budget) -> Bits:
    """Layer → the fewest bits that its weight and its input may have."""
    weights, inputs = (_limits(graph, model, budget, ask) for ask in (WEIGHT_BITS, ACTIVATION_BITS))
    return {name: (weights[name][0], inputs[name][0]) for name in weights}


def mean_widths(graph: Graph, model: nn.Module, budget: Budget, bits: float) -> dict[str, tuple[float, float]]:
    """Layer → ``bits`` within the range of its weight and of its input; 0: the middle of each range."""

    def within(pair: tuple[float, float]) -> float:
        low, high = pair
        return (low + high) / 2 if bits <= 0 else min(max(bits, low), high)

    weights, inputs = (_limits(graph, model, budget, ask) for ask in (WEIGHT_BITS, ACTIVATION_BITS))
    return {name: (within(weights[name]), within(inputs[name])) for name in weights}
