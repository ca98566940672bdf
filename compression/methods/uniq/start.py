"""Where UniQ begins: the bits of every layer, and steps with the least squared error for normal weights and inputs."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.uniq.options import ACTIVATION_BITS, CHANNEL, WEIGHT_BITS, UniqOptions
from compression.quant.allocation import Allocation, LayerAllocation
from compression.quant.attach import attach_ranges, quantizable_layers
from compression.quant.calibrate import Batches, input_ranges
from compression.quant.integers import values
from compression.quant.midrise import attach as attach_midrise
from compression.quant.midrise import fitted_step, positions
from compression.quant.normal_steps import weight_step
from compression.quant.schemes import MIDRISE
from compression.quant.tables import check_numbers, layer_weights, output_axes


def weight_steps(
    weights: dict[str, torch.Tensor], widths: dict[str, int], axes: dict[str, int], options: UniqOptions
) -> dict[str, torch.Tensor]:
    """Layer → Δ = σ(w)·T_b, shape [] or that of its channels; with start ``fitted`` the least error near it."""
    steps = {}
    for name, weight in weights.items():
        check_numbers(name, weight)
        axis = axes[name] if options.weights == CHANNEL and weight.numel() else None
        step = weight_step(weight, widths[name], axis)
        steps[name] = fitted_step(weight, step, widths[name]) if options.start == "fitted" else step
    return steps


def attach(
    model: nn.Module, budget: Budget, options: UniqOptions, batches: Batches | None, without_sign: Collection[str]
) -> nn.Module:
    """Put quantizers on every layer's weight and, with ``batches``, on its input, in place; returns ``model``.

    ``without_sign``: layers whose input is never negative.

    Raises:
        CompressionError: a layer cannot carry a quantizer, bounds of layers that are not there, or one bit for an
            input that may be negative.
    """
    layers = quantizable_layers(model)
    widths = WEIGHT_BITS.widths(budget.asks, budget.layers, list(layers))
    inputs = input_widths(model, budget, without_sign)
    steps = weight_steps(layer_weights(model), widths, output_axes(model), options)
    ranges = {}
    if batches is not None:
        ranges = input_ranges(model, layers, batches, options.start, lambda name: inputs[name], without_sign)
        for name, (_, unsigned) in ranges.items():
            _check_sign(name, inputs[name], unsigned)
    attach_midrise(model, steps, widths)
    attach_ranges(model, ranges, inputs, gradient_scale=True)
    return model


def input_widths(model: nn.Module, budget: Budget, without_sign: Collection[str]) -> dict[str, int]:
    """Layer → the bits of its input; empty where activations stay in floating point.

    Raises:
        CompressionError: one bit for an input that may be negative, or bounds of layers that are not there.
    """
    if ACTIVATION_BITS.value(budget.asks) is None:
        return {}
    widths = ACTIVATION_BITS.widths(budget.asks, budget.layers, list(quantizable_layers(model)))
    for name, bits in widths.items():
        _check_sign(name, bits, name in without_sign)
    return widths


def _check_sign(layer: str, bits: int, unsigned: bool) -> None:
    if bits < 2 and not unsigned:
        raise CompressionError(
            f"activation_bits: what flows into layer {layer} may be negative and needs at least 2 bits: set the option "
            f"ends to eight if it is the first or the last layer, or layers.{layer}.activation_bits"
        )


def allocated(model: nn.Module, budget: Budget, options: UniqOptions) -> Allocation:
    """The bits and first steps of all layers, with the squared error that rounding to these makes."""
    weights = layer_weights(model)
    widths = WEIGHT_BITS.widths(budget.asks, budget.layers, list(quantizable_layers(model)))
    steps = weight_steps(weights, widths, output_axes(model), options)
    layers = tuple(_layer(name, weight, steps[name], widths[name]) for name, weight in weights.items())
    spent = sum(layer.numel * layer.bits for layer in layers)
    numel = sum(layer.numel for layer in layers)
    return Allocation(
        sparsity=0.0, bits=spent / max(1, numel), layers=layers, pruned=0, numel=numel, value_bits=spent,
        budget_bits=spent, exact=False, zeros="rounded", grid="mixed",
    )  # fmt: skip


def _layer(name: str, weight: torch.Tensor, step: torch.Tensor, bits: int) -> LayerAllocation:
    wide = weight.detach().float()
    size = step.to(wide.device)
    error = float((values(positions(wide, size, bits), size, torch.zeros_like(size)) - wide).double().square().sum())
    mean = float(step.mean())
    scales = tuple((step / mean).reshape(-1).tolist()) if step.dim() else None
    return LayerAllocation(
        name, weight.numel(), 0, 0.0, bits, mean, error, 0.0, offset=0.0, scales=scales, scheme=MIDRISE
    )
