"""A trained quantizer whose 2^b levels ±(k - 1/2)Δ, k = 1..2^(b-1), leave zero out, from one bit on (UniQ).

With u = w / Δ and c = (2^b - 1) / 2, ``Q(w) = Δ (round(clamp(u + c, 0, 2^b - 1)) - c)`` (UniQ, arXiv 2104.00210,
section 3). Two things differ: a tie goes away from zero, where rounding to even would treat w and -w differently, and a
weight that is exactly 0 stays 0, so that removed units do. Gradients are straight-through in ``round``, whose residue
is a constant: dQ/dw = 1 up to the last level, abs(u) <= c, and 0 beyond; dQ/dΔ = Q/Δ - u up to it and ±c beyond. Any
training loop can use it: Δ is a parameter, and :class:`.trained_steps.TrainedSteps` holds and updates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.graph.rules import Step as Traced
from compression.graph.rules import rule
from compression.graph.values import Value
from compression.quant.attachable import all_or_nothing, check_layers
from compression.quant.fixed_steps import sharing
from compression.quant.integers import WEIGHT, IntegerWeight, Step, grid_kind, values
from compression.quant.kernels import SMALLEST, reduced, working_dtype
from compression.quant.op import unobserved
from compression.quant.quantizer import Scaled


def positions(w: torch.Tensor, step: torch.Tensor, bits: int) -> torch.Tensor:
    """Whole numbers in -2^(b-1)..2^(b-1): level k stands for sign(k)(abs(k) - 1/2)Δ, and 0 is where ``w`` is 0.

    In the type of ``w``, a new tensor; ``step`` broadcasts to it.
    """
    return w.abs().div_(step).floor_().add_(1).clamp_(max=2 ** (bits - 1)).mul_(w.sign())


def _values(w: torch.Tensor, step: torch.Tensor, bits: int) -> torch.Tensor:
    """What the levels of ``w`` stand for: bit for bit the values of the codes that are stored."""
    return values(positions(w, step, bits), step, torch.zeros_like(step))


def _gradients(
    upstream: torch.Tensor, w: torch.Tensor, step: torch.Tensor, bits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """dL/dw and dL/dΔ of the surrogate."""
    u, last = w / step, (2**bits - 1) / 2
    inside = u.abs() <= last
    # r - c inside, and what the last level is beyond it: both are sign(k)(|k| - 1/2)
    level = positions(w, step, bits)
    level = level.abs().sub_(0.5).mul_(level.sign())
    slope = torch.where(inside, level - u, level)
    return upstream * inside, reduced(upstream * slope, step)


@torch.library.custom_op("compression::midrise_quantize", mutates_args=())
def midrise_quantize(w: torch.Tensor, step: torch.Tensor, bits: int) -> torch.Tensor:
    """Round ``w`` to ±(k - 1/2)·step, as one operator that is differentiable in both.

    ``w``: fp32 or fp64; ``step``: above 0, in its type, shape [] or one that broadcasts to it.
    """
    return _values(w, step, bits)


@midrise_quantize.register_fake
def _shape_only(w: torch.Tensor, step: torch.Tensor, bits: int) -> torch.Tensor:
    return torch.empty_like(w)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    w, step, ctx.bits = inputs
    ctx.save_for_backward(w, step)


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    w, step = ctx.saved_tensors
    return (*_gradients(upstream, w, step, ctx.bits), None)


midrise_quantize.register_autograd(_backward, setup_context=_remember)


@rule("compression.midrise_quantize")
def _traced(step: Traced) -> Value:
    """To the graph a quantized weight is owned as the weight is, and its zeros stay zeros."""
    return step.output(*step.operands[0].factors)


class _Direct(torch.autograd.Function):
    """The same node of autograd without the operator, whose overhead is measurable in a training step."""

    @staticmethod
    def forward(w: torch.Tensor, step: torch.Tensor, bits: int) -> torch.Tensor:
        return _values(w, step, bits)

    setup_context = staticmethod(_remember)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _backward(ctx, upstream)


class MidriseQuantizer(nn.Module):
    """Parametrization of a weight: ±(k - 1/2)Δ with a trained Δ, ``step_size``; bits are given, and may be set anew.

    ``step``: Δ above 0, one number or one for each channel in a shape that broadcasts to the weight ([C, 1, 1, 1]). The
    gradient of Δ is multiplied by ``1 / sqrt(n max(2^(b-1) - 1, 1))`` with n weights, or those of a channel, that share
    it. A weight of exactly 0 has code 0 and gets its gradient: whoever removes units holds them at 0.
    """

    def __init__(self, step: Step, bits: int) -> None:
        super().__init__()
        size = torch.as_tensor(step, dtype=torch.get_default_dtype()).detach()
        self.step_size = nn.Parameter(size.clone().clamp_(min=SMALLEST))
        self.width = bits

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with, in the weight's type."""
        wide = weight.to(working_dtype(weight))
        size = self.step_size
        if torch.is_grad_enabled() and size.requires_grad:
            size = Scaled.apply(size, torch.full_like(size, self._gradient_scale(weight.numel())))
        step = size.clamp(min=SMALLEST).to(wide.dtype)
        apply = _Direct.apply if unobserved(weight) else midrise_quantize
        quantized: torch.Tensor = apply(wide, step, self.width)
        return quantized.to(weight.dtype)

    def _gradient_scale(self, numel: int) -> float:
        """UniQ's g: gradients of steps are sums over n numbers."""
        n = max(1, numel // max(1, self.step_size.numel()))
        return float((n * max(2 ** (self.width - 1) - 1, 1)) ** -0.5)

    @torch.no_grad()
    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """int32 in -2^(b-1)..2^(b-1), the weight's shape: 0 where the weight is exactly 0, and nowhere else."""
        wide = weight.detach().to(working_dtype(weight))
        return positions(wide, self.step_size.clamp(min=SMALLEST).to(wide.dtype), self.width).to(torch.int32)

    def step(self) -> Step:
        """Δ in fp32: a number, or those of the channels."""
        size = self.step_size.detach().float().clamp(min=SMALLEST)
        return size if size.dim() else float(size)

    def shift(self) -> float:
        """Where the levels begin: 0, not ``None``, which would mean multiples of the step."""
        return 0.0

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights."""
        return grid_kind(self.step_size, self.shift())

    def encode(self, name: str, weight: torch.Tensor) -> IntegerWeight:
        """The weight of layer ``name`` as integers."""
        return IntegerWeight(name, self.codes(weight), self.step(), self.width, self.shift())

    def bits(self) -> float:
        """b, of which the grid has 2^b levels."""
        return float(self.width)

    def set_bits(self, bits: int) -> None:
        """Give the grid 2^``bits`` levels; Δ stays."""
        self.width = bits

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        low, high = (float(end) for end in self.step_size.detach().aminmax())
        return f"bits={self.width}, step={low:.4g}" + (f" to {high:.4g}" if high > low else "")


def fitted_step(weight: torch.Tensor, start: torch.Tensor, bits: int, rounds: int = 100) -> torch.Tensor:
    """Δ of less squared error than ``start``, for a layer or for each of its channels; fp32, shape of ``start``.

    Lloyd's rounds: with v the magnitude that each weight has at Δ = 1, the best Δ is Σ|w|v / Σv², for which v is then
    chosen anew. No round raises the error; at one bit the first gives the optimum, 2 E|w|.
    """
    magnitude, step = weight.detach().double().abs(), start.double()
    for _ in range(rounds):
        v = positions(magnitude, step, bits).sub_(0.5).mul_(magnitude > 0)
        above, below = (sums.sum_to_size(step.shape) for sums in (magnitude * v, v * v))
        previous, step = step, torch.where(above > 0, above / below.clamp(min=1e-300), step)
        if bool(((step - previous).abs() <= 1e-9 * previous).all()):
            break
    return step.float()


def attach(model: nn.Module, steps: Mapping[str, Step], bits: Mapping[str, int]) -> nn.Module:
    """Give every layer of ``steps`` a :class:`MidriseQuantizer` of its weight, in place; returns ``model``.

    Layers that share one parameter share the quantizer, with the step and bits of the one that is named.

    Raises:
        CompressionError: a layer cannot carry one; the model is unchanged.
    """
    modules = {name: model.get_submodule(name) for name in steps}
    check_layers(modules)
    with all_or_nothing(model.modules()):
        for name, step in steps.items():
            quantizer = MidriseQuantizer(step, bits[name]).to(modules[name].get_parameter(WEIGHT).device)
            for module in sharing(model, name):
                parametrize.register_parametrization(module, WEIGHT, quantizer, unsafe=True)
    return model
