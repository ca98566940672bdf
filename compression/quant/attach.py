"""Putting quantizers on a model's layers: weights through parametrization, inputs through a hook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.errors import CompressionError
from compression.quant.attachable import INPUT_QUANTIZER, all_or_nothing, check_layers
from compression.quant.calibrate import Calibration, input_ranges
from compression.quant.integers import WEIGHT
from compression.quant.quantizer import Quantizer
from compression.quant.together import Together

Batches = torch.Tensor | Iterable[Any]


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layer name → module, for every convolution and linear layer, first and last included."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (nn.Linear, _ConvNd))}


def quantize(
    model: nn.Module,
    weight_bits: float = 16,
    activations: Batches | None = None,
    activation_bits: float | None = None,
    layers: Iterable[str] | None = None,
    *,
    calibration: Calibration = "max",
    exponent: bool = False,
    gradient_scale: bool = False,
    per_channel: bool = False,
) -> nn.Module:
    """Attach a :class:`Quantizer` to the weight of every Conv and Linear layer, in place; biases stay as they are.

    With ``activations`` (one batch, or batches; of a tuple the first element counts) the input of each layer is
    quantized too, over a range taken from those batches: their largest magnitude, or with
    ``calibration="percentile"`` the 99.9th percentile of magnitudes. ``activation_bits`` is ``weight_bits`` unless
    given. ``layers`` restricts to some layers. ``exponent`` adds the learnable exponent ``t``; ``gradient_scale``
    scales the scalars' gradients as LSQ does. ``per_channel`` gives every output channel of a weight a clipping bound,
    and so a step, of its own (dimension 0; of a transposed convolution dimension 1), the bit-width being the layer's;
    inputs keep one for all. Layers that share one parameter share one quantizer.

    Returns ``model``, whose modules keep their classes (``isinstance``) and can be deep-copied. Weights and inputs keep
    their type: in half precision the values are those of fp32, rounded to it.

    Raises:
        CompressionError: no layer to quantize, an unknown layer, impossible bits, or a layer that cannot carry a
            quantizer: its weight is computed from others (pruning masks, weight norm, a parametrization), has no
            values or shape yet, or is no plain floating-point tensor of finite values. The model is then unchanged.
    """
    chosen = _chosen_layers(model, layers)
    _check_bits(weight_bits, weight_bits if activation_bits is None else activation_bits)
    check_layers(chosen, per_channel)
    ranges = {} if activations is None else input_ranges(model, chosen, activations, calibration)
    start = 1.0 if exponent else None
    shared: dict[int, Quantizer] = {}
    with all_or_nothing({model, *chosen.values()}):
        for module in chosen.values():
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            if id(weight) not in shared:
                bounds = _channel_ranges(module, weight) if per_channel else _largest(weight)
                shared[id(weight)] = Quantizer(bounds, weight_bits, start, gradient_scale).to(weight.device)
            parametrize.register_parametrization(module, WEIGHT, shared[id(weight)], unsafe=True)
        Together(list(chosen.values())).attach(model)
        for name, bound in ranges.items():
            bits = weight_bits if activation_bits is None else activation_bits
            _attach_input_quantizer(chosen[name], Quantizer(bound, bits, start, gradient_scale))
    return model


def activation_quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """Layer name → the quantizer of its input, in the model's order."""
    found = {}
    for name, module in model.named_modules():
        quantizer = module._modules.get(INPUT_QUANTIZER)
        if isinstance(quantizer, Quantizer):
            found[name] = quantizer
    return found


def attach_input_quantizers(model: nn.Module, layers: Iterable[str]) -> nn.Module:
    """Put a quantizer on the input of each named layer (in place; returns ``model``), to be filled from a state dict.

    Raises:
        CompressionError: the model has no such layer, or it carries one already.
    """
    for name, module in _chosen_layers(model, layers).items():
        if INPUT_QUANTIZER in module._modules:
            raise CompressionError(f"layer {name!r} already carries an input quantizer")
        _attach_input_quantizer(module, Quantizer(1.0))
    return model


def _attach_input_quantizer(module: nn.Module, quantizer: Quantizer) -> None:
    device = next(module.parameters()).device
    module.add_module(INPUT_QUANTIZER, quantizer.to(device))
    module.register_forward_pre_hook(_quantize_input, with_kwargs=True)


def _quantize_input(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A forward pre-hook; a plain function, so that deep copies of the module use their own quantizer."""
    quantizer = module.get_submodule(INPUT_QUANTIZER)
    if args:
        return (quantizer(args[0]), *args[1:]), dict(kwargs)
    return args, {**kwargs, "input": quantizer(kwargs["input"])}


def _chosen_layers(model: nn.Module, layers: Iterable[str] | None) -> dict[str, nn.Module]:
    candidates = quantizable_layers(model)
    if not candidates:
        raise CompressionError("the model has no convolution or linear layer to quantize")
    if layers is None:
        return candidates
    names = list(layers)
    for name in names:
        if name not in candidates:
            raise CompressionError(f"no layer {name!r} to quantize; layers: {', '.join(list(candidates)[:8])}, …")
    return {name: candidates[name] for name in names}


def _check_bits(*widths: float) -> None:
    for bits in widths:
        if not LOWEST_BITS <= bits <= HIGHEST_BITS:
            raise CompressionError(f"bits must lie in {LOWEST_BITS}..{HIGHEST_BITS}, not {bits!r}")


def _channel_ranges(module: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Largest magnitude of each output channel, in a shape that broadcasts; where all is zero, that of the layer."""
    axis = 1 if isinstance(module, _ConvTransposeNd) else 0
    others = [dim for dim in range(weight.dim()) if dim != axis]
    if not weight.numel():
        return torch.ones([1 if dim in others else size for dim, size in enumerate(weight.shape)])
    largest = weight.detach().abs().amax(others, keepdim=True).float()
    return torch.where(largest > 0, largest, _largest(weight))


def _largest(weight: torch.Tensor) -> float:
    largest = float(weight.detach().abs().max()) if weight.numel() else 0.0
    return largest if largest > 0 else 1.0
