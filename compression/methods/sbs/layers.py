"""The paths of a network: of each layer's weight and of its input, with the bits that a budget lets them have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.sbs.asks import ACTIVATION_BITS, WEIGHT_BITS, SharedBits, candidates
from compression.methods.sbs.options import SbsOptions
from compression.methods.sbs.path import InputPath, WeightPath
from compression.quant.attach import activation_quantizers, attach_ranges, quantizable_layers
from compression.quant.calibrate import Batches, input_ranges
from compression.quant.integers import WEIGHT, weight_quantizers
from compression.quant.midrise import MidriseQuantizer, fitted_step
from compression.quant.midrise import attach as attach_midrise
from compression.quant.normal_steps import weight_step
from compression.quant.tables import check_numbers

Widths = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class SharedLayer:
    """Layers that compute with one weight, mostly one: ``names``; the path of the weight, and those of their inputs.

    ``original``: the weight that is trained.
    """

    names: tuple[str, ...]
    original: torch.Tensor
    weight: WeightPath
    inputs: tuple[InputPath, ...]

    @property
    def input_candidates(self) -> tuple[int, ...]:
        """Bit-widths of the inputs; the one candidate 32 where they are in floating point."""
        return self.inputs[0].candidates if self.inputs else (32,)


def layer_candidates(ask: SharedBits, budget: Budget, model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Layer → the bit-widths that it may have; of layers that share a weight those that all of them may have.

    Empty where the ask is for nothing.

    Raises:
        CompressionError: layers that share a weight have none in common.
    """
    layers, result = quantizable_layers(model), dict[str, tuple[int, ...]]()
    owners: dict[int, list[str]] = {}
    for name, module in layers.items():
        limits = ask.layer_limits(budget.asks, budget.layers, name)
        if limits is None:
            return {}
        result[name] = candidates(*limits)
        owners.setdefault(id(module.weight), []).append(name)
    for names in owners.values():
        common = tuple(bits for bits in result[names[0]] if all(bits in result[name] for name in names))
        if not common:
            raise CompressionError(
                f"layers.{names[0]}.{ask.layer_bound}: {' and '.join(names)} share one weight and need a bit-width "
                "that all of them may have"
            )
        result |= dict.fromkeys(names, common)
    return result


def attach(
    model: nn.Module, budget: Budget, options: SbsOptions, batches: Batches | None, nonnegative: frozenset[str]
) -> tuple[SharedLayer, ...]:
    """Put quantizers at their most bits on every weight and, with ``batches``, on every input, in place.

    A weight's clipping bound is that of the least squared error at the middle of its candidates, one of inputs as the
    option ``ranges`` says. ``nonnegative``: layers whose input is never negative.

    Raises:
        CompressionError: a layer cannot carry a quantizer, or layers that share a weight have no bit-width in common.
    """
    layers = quantizable_layers(model)
    if not layers:
        raise CompressionError("the model has no convolution or linear layer to quantize")
    weights, inputs = (layer_candidates(ask, budget, model) for ask in (WEIGHT_BITS, ACTIVATION_BITS))
    shared: dict[int, list[str]] = {}
    steps: dict[str, torch.Tensor] = {}
    for name, module in layers.items():
        weight = module.get_parameter(WEIGHT)
        check_numbers(name, weight)
        if id(weight) not in shared:
            steps[name] = first_step(weight, weights[name])
        shared.setdefault(id(weight), []).append(name)
    ranges = {}
    if batches is not None:
        fewest = {name: bits[0] for name, bits in inputs.items()}
        ranges = input_ranges(model, layers, batches, options.ranges, lambda name: fewest[name], nonnegative)
    attach_midrise(model, steps, {name: weights[name][-1] for name in steps})
    attach_ranges(model, ranges, {name: inputs[name][-1] for name in ranges}, gradient_scale=True)
    return _paths(model, list(shared.values()), weights, inputs)


def first_step(weight: torch.Tensor, bits: tuple[int, ...]) -> torch.Tensor:
    """Δ at the most of these bits, where the clipping bound is that of the least squared error at the middle one."""
    middle = bits[len(bits) // 2]
    step = fitted_step(weight, weight_step(weight, middle), middle)
    return step * ((2**middle - 1) / (2 ** bits[-1] - 1))


def _paths(model: nn.Module, shared: list[list[str]], weights: Widths, inputs: Widths) -> tuple[SharedLayer, ...]:
    of_weights, of_inputs = weight_quantizers(model), activation_quantizers(model)
    result = []
    for names in shared:
        quantizer = of_weights[names[0]]
        assert isinstance(quantizer, MidriseQuantizer)
        original = model.get_submodule(names[0]).get_parameter("parametrizations.weight.original")
        with_inputs = tuple(InputPath(inputs[name], of_inputs[name]) for name in names if name in of_inputs)
        result.append(SharedLayer(tuple(names), original, WeightPath(weights[names[0]], quantizer), with_inputs))
    return tuple(result)
