"""A trainable quantizer whose high bits are a quantizer by themselves: one weight serves every bit-width.

At b bits a weight is cut into cells of width Δ_b = q / 2^(b-1), q the clipping bound: m = min(⌊abs(w) / Δ_b⌋,
2^(b-1) - 1), which stands for the middle of its cell, and m = 0 for 0 (the dead-zone grid of :mod:`.nested`). Since
Δ_(b-1) = 2 Δ_b, the magnitude at fewer bits is that at more bits without its lowest ones, exactly and for every b:
"vertical layering" (arXiv 2212.05326), here with a zero.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.graph.rules import Step as Traced
from compression.graph.rules import rule
from compression.graph.values import Value
from compression.quant.attachable import all_or_nothing, check_layers
from compression.quant.fixed_steps import sharing
from compression.quant.integers import IntegerWeight, values, weight_quantizers
from compression.quant.kernels import SMALLEST, working_dtype
from compression.quant.nested import dead_zone

SAMPLE = 100_000  # weights of a layer on which its first clipping bound is chosen
BOUNDS = 48  # tried for it


class NestedQuantizer(nn.Module):
    """Parametrization of a weight: the middles of cells at ``width`` bits, of ``top`` at most; the bound q is trained.

    What is exactly 0 stays 0. The gradient passes straight through up to q; that of q is divided by
    √(n 2^(b-1)) for n weights (LSQ, arXiv 1902.08153, section 2.2).
    """

    def __init__(self, clip: float, top: int) -> None:
        super().__init__()
        self.clip = nn.Parameter(torch.tensor(max(float(clip), SMALLEST)))
        self.top = self.width = top

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with at the present width, in the weight's type."""
        result: torch.Tensor = nested_quantize(weight.to(working_dtype(weight)), self.clip, self.width)
        return result.to(weight.dtype)

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights."""
        return "offset"

    @torch.no_grad()
    def encode(self, name: str, weight: torch.Tensor) -> IntegerWeight:
        """The weight of layer ``name`` at the present width, as integers: level k is (k + 1/2) Δ_b."""
        wide = weight.detach().to(working_dtype(weight))
        step = float(_step(self.clip, self.width))
        return IntegerWeight(name, _codes(wide, self.clip, self.width).to(torch.int32), step, self.width, step)

    def bits(self) -> float:
        """The present width."""
        return float(self.width)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"clip={self.clip.item():.4g}, width={self.width} of {self.top}"


def _step(clip: torch.Tensor, bits: int) -> torch.Tensor:
    """Δ_b: a division by a power of 2, so that it is exact."""
    return clip.detach().clamp(min=SMALLEST) / 2 ** (bits - 1)


def _codes(weight: torch.Tensor, clip: torch.Tensor, bits: int) -> torch.Tensor:
    """sign(w) m, whole numbers in the weight's dtype, a new tensor."""
    magnitude = (weight.abs() / _step(clip, bits)).floor_().clamp_(max=2 ** (bits - 1) - 1)
    return magnitude.mul_(weight.sign())


@torch.library.custom_op("compression::nested_quantize", mutates_args=())
def nested_quantize(weight: torch.Tensor, clip: torch.Tensor, bits: int) -> torch.Tensor:
    """A weight on its grid of ``bits`` bits, as one operator; it equals the encoded weight bit for bit."""
    step = _step(clip, bits)
    return values(_codes(weight, clip, bits), step, step)


@nested_quantize.register_fake
def _shape_only(weight: torch.Tensor, clip: torch.Tensor, bits: int) -> torch.Tensor:
    return torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    weight, clip, ctx.bits = inputs
    ctx.save_for_backward(weight, clip, output)


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """With the position within the cell held: Q = w + Δ r inside, so dQ/dq = (Q - w) / q there and Q / q beyond q."""
    weight, clip, output = ctx.saved_tensors
    bound = clip.clamp(min=SMALLEST)
    inside = weight.abs() <= bound
    slope = torch.where(inside, output - weight, output).mul_(upstream).sum() / bound
    scale = 1 / math.sqrt(max(1, weight.numel()) * 2 ** (ctx.bits - 1))
    return upstream * inside, (slope * scale).to(clip.dtype), None


nested_quantize.register_autograd(_backward, setup_context=_remember)


@rule("compression.nested_quantize")
def _traced(step: Traced) -> Value:
    """To the graph a quantized weight is owned as the weight is, and its zeros stay zeros."""
    return step.output(*step.operands[0].factors)


def nested_quantizers(model: nn.Module) -> dict[str, NestedQuantizer]:
    """Layer → the quantizer on its weight, of those that have one of this kind; a shared one by its first layer."""
    layers: dict[NestedQuantizer, str] = {}
    for name, quantizer in weight_quantizers(model).items():
        if isinstance(quantizer, NestedQuantizer):
            layers.setdefault(quantizer, name)
    return {name: quantizer for quantizer, name in layers.items()}


def set_widths(model: nn.Module, widths: Mapping[str, int]) -> None:
    """Read the weight of every layer named at so many bits."""
    quantizers = nested_quantizers(model)
    for name, width in widths.items():
        quantizers[name].width = width


def attach(model: nn.Module, widths: Mapping[str, Collection[int]]) -> nn.Module:
    """Give every layer named a quantizer that is to serve these bit-widths, in place; returns ``model``.

    Layers that share one parameter share one quantizer, which serves the widths of the first.

    Raises:
        CompressionError: a layer cannot carry one; the model is unchanged.
    """
    modules = dict(model.named_modules())
    check_layers({name: modules[name] for name in widths})
    first: dict[int, str] = {}
    for name in widths:
        first.setdefault(id(modules[name].get_parameter("weight")), name)
    with all_or_nothing(model.modules()):
        for name in first.values():
            weight = modules[name].get_parameter("weight")
            quantizer = NestedQuantizer(first_bound(weight, widths[name]), max(widths[name])).to(weight.device)
            for module in sharing(model, name):
                parametrize.register_parametrization(module, "weight", quantizer, unsafe=True)
    return model


def first_bound(weight: torch.Tensor, widths: Collection[int]) -> float:
    """The clipping bound q of the least Σ_b error_b(q) over these widths, of 48; error_b: squared, of 100,000 weights.

    A single bound for all is a compromise: fewer bits want a smaller one, which costs more bits little once trained.
    """
    flat = weight.detach().reshape(-1)
    wide = flat[:: max(1, flat.numel() // SAMPLE)].cpu().double()
    largest = float(wide.abs().max()) if wide.numel() else 0.0
    if largest == 0:
        return 1.0
    bounds = largest * np.geomspace(0.1, 1.0, BOUNDS)
    errors = [sum(_error(wide, bound, bits) for bits in widths) for bound in bounds]
    return float(bounds[int(np.argmin(errors))])


def _error(weight: torch.Tensor, bound: float, bits: int) -> float:
    step = bound / 2 ** (bits - 1)
    codes = dead_zone(weight, step, bits - 1).double()
    return float((weight - (codes.abs() + 0.5) * step * codes.sign()).square().sum())
