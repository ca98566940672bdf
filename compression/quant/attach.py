"""Attaches quantizers to a model's layers: to weights by parametrization, to inputs by a forward pre-hook."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.errors import CompressionError
from compression.quant.attachable import INPUT_QUANTIZER, all_or_nothing, check_layers
from compression.quant.calibrate import Batches, CalibrationRange, InputRange, input_ranges
from compression.quant.integers import WEIGHT
from compression.quant.quantizer import UNSIGNED, Quantizer
from compression.quant.together import Together

P = ParamSpec("P")
R = TypeVar("R")


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layer name → module, for every convolution and linear layer, first and last included."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (nn.Linear, _ConvNd))}


def _with_old_names(function: Callable[P, R]) -> Callable[P, R]:
    """Accept the argument names of version 0.1 with a DeprecationWarning that names the new ones.

    ``activations=batches`` is ``calibration=batches``; ``calibration="percentile"`` is
    ``calibration_range="percentile"``. The names are accepted at run time only: type checkers report them.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        old_names = []
        if isinstance(kwargs.get("calibration"), str):
            old_names.append(("calibration", "calibration_range"))
        if "activations" in kwargs:
            old_names.append(("activations", "calibration"))
        for old, new in old_names:
            if new in kwargs:
                raise TypeError(f"{function.__name__}() got both {new}= and {old}=, its old name: pass {new}= only")
            message = f"{function.__name__}({old}={_shown(kwargs[old])}) is now {function.__name__}({new}=…)"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            kwargs[new] = kwargs.pop(old)
        return function(*args, **kwargs)

    return wrapper


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else "…"


@_with_old_names
def quantize(
    model: nn.Module,
    weight_bits: float = 16,
    calibration: Batches | None = None,
    activation_bits: float | None = None,
    layers: Iterable[str] | None = None,
    *,
    calibration_range: CalibrationRange = "max",
    range_bits: Callable[[str], float] | None = None,
    exponent: bool | Collection[str] = False,
    gradient_scale: bool = False,
    per_channel: bool = False,
    unsigned: Collection[str] = (),
) -> nn.Module:
    """Attach a :class:`Quantizer` to the weight of every Conv and Linear layer, in place; biases are not quantized.

    Args:
        model: modules keep their classes (``isinstance``) and can be deep-copied. Weights and inputs keep their type:
            in half precision the values are those of fp32, rounded to it.
        weight_bits: initial bit-width of the weights.
        calibration: one batch, or several, on which the ranges of activations are measured; the input of each layer
            is then quantized too. Of a batch that is a tuple or list, the first element is the model's input.
        activation_bits: initial bit-width of the inputs; ``weight_bits`` if absent.
        layers: names of the layers to quantize; all if absent.
        calibration_range: ``max``, the largest magnitude of the batches plus a margin, ``percentile``, the 99.9th
            percentile of the magnitudes, or ``fitted``, where rounding them has the least squared error,
            or ``normal``, where it would have for normal numbers behind a ReLU.
        range_bits: layer → the bit-width of its input that a ``fitted`` range is for; the initial one if absent.
        exponent: add the learnable exponent ``t`` (GETA, arXiv 2502.16638, section 3.1) to every quantizer, or to those
            of the weights of the layers named.
        gradient_scale: scale the gradients of the quantizers' scalars as LSQ does (arXiv 1902.08153, section 2.2).
        per_channel: a separate clipping bound, hence a separate step, for each output channel of a weight (dimension
            0; of a transposed convolution dimension 1). The bit-width belongs to the layer; inputs have one bound.
        unsigned: layers whose input is never negative (a graph's ``nonnegative_inputs``): their quantizers have no
            sign and half the step at the same bit-width. Where the batches disagree, the sign stays.

    Returns:
        ``model``. Layers that share one parameter share one quantizer.

    Raises:
        CompressionError: no layer to quantize, an unknown layer, impossible bits, or a layer that cannot carry a
            quantizer: its weight is computed from other tensors (pruning masks, weight norm, a parametrization), has
            no values or shape yet, or is not a plain floating-point tensor of finite values. The model is unchanged.
    """
    chosen = _chosen_layers(model, layers)
    _check_bits(weight_bits, weight_bits if activation_bits is None else activation_bits)
    check_layers(chosen, per_channel)
    if isinstance(unsigned, (str, bool)):
        raise CompressionError(f"unsigned must be names of layers (graph.nonnegative_inputs), not {unsigned!r}")
    input_bits = weight_bits if activation_bits is None else activation_bits
    fitted_to = range_bits or (lambda _: input_bits)
    ranges: dict[str, InputRange] = {}
    if calibration is not None:
        ranges = input_ranges(model, chosen, calibration, calibration_range, fitted_to, unsigned)
    start = 1.0 if exponent is True else None
    shared: dict[int, Quantizer] = {}
    with all_or_nothing({model, *chosen.values()}):
        for name, module in chosen.items():
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            if id(weight) not in shared:
                bounds = _channel_ranges(module, weight) if per_channel else _largest(weight)
                power = 1.0 if exponent is True or (exponent and name in exponent) else None
                shared[id(weight)] = Quantizer(bounds, weight_bits, power, gradient_scale).to(weight.device)
            parametrize.register_parametrization(module, WEIGHT, shared[id(weight)], unsafe=True)
        Together(list(chosen.values())).attach(model)
        for name, (bound, without_sign) in ranges.items():
            _attach_input_quantizer(chosen[name], Quantizer(bound, input_bits, start, gradient_scale, without_sign))
    return model


def activation_quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """Layer name → the quantizer on its input, in the order of the model's modules."""
    quantizers = {name: module._modules.get(INPUT_QUANTIZER) for name, module in model.named_modules()}
    return {name: quantizer for name, quantizer in quantizers.items() if isinstance(quantizer, Quantizer)}


def unsigned_key(layer: str) -> str:
    """The entry of a state dict that says that the quantizer on the input of ``layer`` has no sign."""
    return f"{layer}.{INPUT_QUANTIZER}.{UNSIGNED}"


def fit_ranges(model: nn.Module, batches: Batches) -> None:
    """Set the clipping bound of every input quantizer to where rounding what its layer receives has the least squared
    error at the whole bit-width next to the present one, which does not change; in place.

    Raises:
        CompressionError: no batches, or values that are not finite.
    """
    quantizers = activation_quantizers(model)
    unsigned = {name for name, quantizer in quantizers.items() if quantizer.is_unsigned}
    ranges = input_ranges(model, quantizers, batches, "fitted", lambda name: round(quantizers[name].bits()), unsigned)
    for name, (bound, _) in ranges.items():
        bits = quantizers[name].bits()
        with torch.no_grad():
            quantizers[name].clip.fill_(bound)
        quantizers[name].set_bits(bits)


def attach_input_quantizers(model: nn.Module, layers: Iterable[str], unsigned: Collection[str] = ()) -> nn.Module:
    """Attach a quantizer to the input of each named layer, in place, whose scalars a state dict then sets.

    ``unsigned``: those of the layers whose quantizer has no sign. Returns ``model``.

    Raises:
        CompressionError: the model has no such layer, or the layer has an input quantizer already.
    """
    for name, module in _chosen_layers(model, layers).items():
        if INPUT_QUANTIZER in module._modules:
            raise CompressionError(f"layer {name!r} already carries an input quantizer")
        _attach_input_quantizer(module, Quantizer(1.0, unsigned=name in unsigned))
    return model


def attach_ranges(
    model: nn.Module, ranges: Mapping[str, InputRange], bits: Mapping[str, float], gradient_scale: bool = False
) -> None:
    """Attach a quantizer to the input of each layer that has a range, at its bit-width, in place.

    The layers' weights may carry quantizers already. ``gradient_scale`` is that of :func:`quantize`.
    """
    for name, (bound, unsigned) in ranges.items():
        quantizer = Quantizer(bound, bits[name], gradient_scale=gradient_scale, unsigned=unsigned)
        _attach_input_quantizer(model.get_submodule(name), quantizer)


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
    """Largest magnitude of each output channel, in a shape that broadcasts; of an all-zero channel, the layer's."""
    axis = 1 if isinstance(module, _ConvTransposeNd) else 0
    others = [dim for dim in range(weight.dim()) if dim != axis]
    if not weight.numel():
        return torch.ones([1 if dim in others else size for dim, size in enumerate(weight.shape)])
    largest = weight.detach().abs().amax(others, keepdim=True).float()
    return torch.where(largest > 0, largest, _largest(weight))


def _largest(weight: torch.Tensor) -> float:
    largest = float(weight.detach().abs().max()) if weight.numel() else 0.0
    return largest if largest > 0 else 1.0
