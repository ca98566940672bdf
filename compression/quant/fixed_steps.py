"""The quantizer OPQ trains under: a fixed mask, a fixed step, a fixed bit-width, and a straight-through gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.errors import CompressionError
from compression.graph.rules import Step as Traced
from compression.graph.rules import rule
from compression.graph.values import Value
from compression.quant.allocation import Allocation, LayerAllocation
from compression.quant.attachable import all_or_nothing, check_layers
from compression.quant.groups import GroupQuantizer, fit_groups
from compression.quant.integers import IntegerWeight, Step, grid_kind, quantizer_of, values
from compression.quant.kernels import working_dtype
from compression.quant.laplace import levels_of
from compression.quant.levels import LevelQuantizer
from compression.quant.schemes import MIDRISE
from compression.quant.tables import layer_weights, survivors


class FixedQuantizer(nn.Module):
    """Parametrization of a weight: Ŵ = Δ · codes; a code is 0 where pruned, else ±clamp(round(|W|/Δ), lowest, Q).

    ``mask`` is a bool buffer of the weight's shape (True survives), Δ one number or one for each channel. With an
    ``offset`` t, one number or one for each channel, levels begin there: a code k stands for ±(t + (k - 1/2)Δ),
    k = 1..Q. Neither mask nor step nor offset is ever trained. The gradient passes straight through where the mask is
    True and |W| is at most half a step beyond the last level, and is 0 elsewhere. With ``lowest`` 1 a survivor stays at
    ±Δ or more, with 0 it may round to 0. A weight that is exactly 0 has code 0, whatever the mask says, so that a unit
    zeroed later stays zero.
    """

    mask: torch.Tensor
    step_size: torch.Tensor
    grid: torch.Tensor  # int64 [3]: Q, lowest, whether there is an offset
    offset: torch.Tensor

    def __init__(self, mask: torch.Tensor, step: Step, bits: int, lowest: int = 1, offset: Step | None = None) -> None:
        super().__init__()
        self.register_buffer("mask", mask.detach().clone().to(torch.bool))
        size = torch.as_tensor(step, dtype=torch.float32, device=mask.device)
        self.register_buffer("step_size", size.clone())
        self.register_buffer("grid", torch.tensor([levels_of(bits), lowest, int(offset is not None)]))
        start = torch.as_tensor(0.0 if offset is None else offset, dtype=torch.float32, device=mask.device)
        self.register_buffer("offset", start.clone())
        self._read_grid()

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with: exactly what its codes stand for, in the weight's type."""
        start = self.offset if self.shifted else None
        wide = weight.to(working_dtype(weight))
        quantized: torch.Tensor = fixed_quantize(wide, self.mask, self.step_size, self.levels, self.lowest, start)
        return quantized.to(weight.dtype)

    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """int32 in -Q..Q, the weight's shape, 0 where pruned."""
        start = self.offset if self.shifted else None
        wide = weight.detach().to(working_dtype(weight))
        return _codes(wide, self.mask, self.step_size, self.levels, self.lowest, start).to(torch.int32)

    def step(self) -> Step:
        """Δ, exactly an fp32 number; or those of the channels, in a shape that broadcasts to the weight."""
        return self.step_size.detach().clone() if self.step_size.dim() else float(self.step_size)

    def shift(self) -> Step | None:
        """t, as :meth:`step` gives Δ; ``None`` on the plain grid."""
        if not self.shifted:
            return None
        return self.offset.detach().clone() if self.offset.dim() else float(self.offset)

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights: multiples of the step or levels from the offset, perhaps by channel."""
        return grid_kind(self.step_size, self.offset if self.shifted else None)

    def encode(self, name: str, weight: torch.Tensor) -> IntegerWeight:
        """The weight of layer ``name`` as integers."""
        return IntegerWeight(name, self.codes(weight), self.step(), round(self.bits()), self.shift())

    def bits(self) -> float:
        """The bit-width b with Q = 2^(b-1) - 1."""
        return math.log2(self.levels + 1) + 1.0

    def set_bits(self, bits: int) -> None:
        """Give the grid the levels of so many bits; Δ, mask and offset stay."""
        self.grid[0] = levels_of(bits)
        self._read_grid()

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        offset = f", offset={_span(self.offset)}" if self.shifted else ""
        survivors = f"{int(self.mask.sum())}/{self.mask.numel()}"
        return f"bits={self.bits():g}, step={_span(self.step_size)}{offset}, survivors={survivors}"

    def _read_grid(self) -> None:
        """Plain numbers beside the buffer that is saved: reading it in every step would wait for the device."""
        self.levels, self.lowest, shifted = (int(number) for number in self.grid.tolist())
        self.shifted = bool(shifted)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in ("grid", "offset"):  # states saved before these were stored are those of the same allocation
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._read_grid()


def _span(numbers: torch.Tensor) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


def _codes(
    weight: torch.Tensor, mask: torch.Tensor, step: torch.Tensor, levels: int, lowest: int, offset: torch.Tensor | None
) -> torch.Tensor:
    """Whole numbers in the weight's dtype."""
    if offset is None:
        magnitude = (weight.abs() / step).round_().clamp_(lowest, levels)
    else:
        magnitude = weight.abs().sub_(offset).div_(step).floor_().add_(1).clamp_(1, levels)
    return magnitude.mul_(weight.sign()).mul_(mask)


@torch.library.custom_op("compression::fixed_quantize", mutates_args=())
def fixed_quantize(
    weight: torch.Tensor,
    mask: torch.Tensor,
    step: torch.Tensor,
    levels: int,
    lowest: int,
    offset: torch.Tensor | None = None,
) -> torch.Tensor:
    """What the codes of a weight stand for, as one operator; it equals the integers bit for bit."""
    return values(_codes(weight, mask, step, levels, lowest, offset), step, offset)


@fixed_quantize.register_fake
def _shape_only(
    weight: torch.Tensor,
    mask: torch.Tensor,
    step: torch.Tensor,
    levels: int,
    lowest: int,
    offset: torch.Tensor | None = None,
) -> torch.Tensor:
    return torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    weight, mask, step, levels, _, offset = inputs
    last = (levels + 0.5) * step if offset is None else offset + levels * step
    ctx.save_for_backward(mask & (weight.abs() <= last))


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (passes,) = ctx.saved_tensors
    return upstream * passes, None, None, None, None, None


fixed_quantize.register_autograd(_backward, setup_context=_remember)


@rule("compression.fixed_quantize")
def _traced(step: Traced) -> Value:
    """To the graph a quantized weight is owned as the weight is, and its zeros stay zeros; the mask owns nothing."""
    return step.output(*step.operands[0].factors)


def attach(model: nn.Module, allocation: Allocation) -> nn.Module:
    """Give every allocated layer its fixed quantizer, and set its pruned weights to 0 (in place; returns ``model``).

    A pruned weight that is 0, gets no gradient and therefore no decay and no momentum stays 0 under any optimizer.

    Raises:
        CompressionError: the model lacks an allocated layer, has another number of weights there, or carries a
            quantizer.
    """
    modules = dict(model.named_modules())
    check_layers({layer.name: modules[layer.name] for layer in allocation.layers if layer.name in modules})
    weights = layer_weights(model)
    for layer in allocation.layers:
        if layer.name not in weights or not _fits(layer, weights[layer.name]):
            raise CompressionError(f"the allocation does not fit: no layer {layer.name} with {layer.numel} weights")
    lowest = 1 if allocation.zeros == "exact" else 0
    masks = {layer.name: survivors(weights[layer.name], layer.pruned) for layer in allocation.layers}
    with all_or_nothing(model.modules()):
        for layer in allocation.layers:
            mask = masks[layer.name]
            quantizer = scheme_quantizer(layer, weights[layer.name]) or FixedQuantizer(
                mask, step_of(layer, mask), layer.bits, lowest, layer.offset
            )
            for module in sharing(model, layer.name):
                parametrize.register_parametrization(module, "weight", quantizer, unsafe=True)
    for name, mask in masks.items():
        weights[name].mul_(mask)
    return model


def scheme_quantizer(layer: LayerAllocation, weight: torch.Tensor) -> nn.Module | None:
    """The quantizer of a layer whose levels are no multiples of one step; ``None`` for others."""
    if layer.group is not None:
        return GroupQuantizer(fit_groups(weight, layer.bits, layer.group, layer.clip or "max"), layer.bits, layer.group)
    if layer.levels is not None:
        return LevelQuantizer(torch.tensor(layer.levels)).to(weight.device)
    if layer.scheme == MIDRISE:
        return LevelQuantizer(step=layer.step, count=2 ** (layer.bits - 1)).to(weight.device)
    return None


def _fits(layer: LayerAllocation, weight: torch.Tensor) -> bool:
    if layer.scales is None:
        return weight.numel() == layer.numel
    return weight.numel() == layer.numel and weight.dim() > layer.axis and weight.shape[layer.axis] == len(layer.scales)


def step_of(layer: LayerAllocation, weight: torch.Tensor) -> torch.Tensor:
    """The layer's step as a tensor on the device of its weight; of channels, in a shape that broadcasts to that."""
    if layer.scales is None:
        return torch.tensor(layer.step, dtype=torch.float32, device=weight.device)
    shape = [size if dim == layer.axis else 1 for dim, size in enumerate(weight.shape)]
    scales = torch.tensor(layer.scales, dtype=torch.float32, device=weight.device).reshape(shape)
    return (scales * layer.step).clamp(min=torch.finfo(torch.float32).tiny)


@torch.no_grad()
def keep_survivors(model: nn.Module) -> int:
    """Move every survivor that is exactly 0 after training to the lowest level; returns how many."""
    moved = 0
    for module in model.modules():
        quantizer = quantizer_of(module)
        if isinstance(quantizer, FixedQuantizer) and quantizer.lowest > 0:
            raw = module.get_parameter("parametrizations.weight.original")
            lost = quantizer.mask & (raw == 0)
            raw[lost] = (quantizer.step_size * 0.5).to(raw.dtype).expand_as(raw)[lost]
            moved += int(lost.sum())
    return moved


def sharing(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules that compute with this layer's weight: itself, and others when the weight is shared."""
    weight = model.get_submodule(name)._parameters["weight"]
    return [module for module in model.modules() if module._parameters.get("weight") is weight]
