"""Whether layers can carry a quantizer: decided for all before the first is changed, and undone for all together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune

from compression.errors import CompressionError
from compression.quant.integers import WEIGHT, quantizer_of

INPUT_QUANTIZER = "input_quantizer"
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_RESERVED = ("parametrizations", INPUT_QUANTIZER, "weight_fake_quant")
_COMPUTED = {
    "weight_g": "torch.nn.utils.remove_weight_norm(layer)",
    "weight_u": "torch.nn.utils.remove_spectral_norm(layer)",
}
_PARAMETRIZED = "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"


def check_layers(layers: Mapping[str, nn.Module], per_channel: bool = False) -> None:
    """Refuse layers that cannot carry a quantizer of their weight.

    Raises:
        CompressionError: naming the first such layer, what is in the way, and how to take it away.
    """
    axes: dict[int, tuple[str, bool]] = {}
    for name, module in layers.items():
        weight = _weight(name, module)
        if problem := _problem(weight):
            raise CompressionError(f"layer {name!r}: {problem}")
        transposed = isinstance(module, _ConvTransposeNd)
        other, axis = axes.setdefault(id(weight), (name, transposed))
        if per_channel and axis != transposed:
            raise CompressionError(
                f"layers {other!r} and {name!r} share one weight, whose output channels lie along another dimension in "
                "each: quantize it per tensor"
            )


def _weight(name: str, module: nn.Module) -> torch.Tensor:
    """The stored weight of a layer.

    Raises:
        CompressionError: it is computed from others, or quantized already.
    """
    if quantizer_of(module) is not None or any(name in module._modules for name in _RESERVED[1:]):
        raise CompressionError(f"layer {name!r} already carries a quantizer; quantize a fresh copy")
    if parametrize.is_parametrized(module, WEIGHT):
        raise CompressionError(f"layer {name!r} already carries a parametrization of its weight: {_PARAMETRIZED} first")
    if not parametrize.is_parametrized(module) and any(hasattr(module, reserved) for reserved in _RESERVED):
        raise CompressionError(f"layer {name!r} has an attribute of a name that quantizers need: rename it")
    if prune.is_pruned(module):
        raise CompressionError(f"layer {name!r} carries a pruning mask: torch.nn.utils.prune.remove(layer, name) first")
    weight = module._parameters.get(WEIGHT, module._buffers.get(WEIGHT))
    if weight is None:
        way_out = next((call for mark, call in _COMPUTED.items() if hasattr(module, mark)), "store it as a parameter")
        raise CompressionError(f"layer {name!r} computes its weight from other tensors: {way_out} first")
    return weight


def _problem(weight: torch.Tensor) -> str:
    """Why a stored weight cannot be quantized; empty if it can."""
    if is_lazy(weight):
        return "its weight has no shape yet: run the model once on an input"
    if type(weight.data) is not torch.Tensor or weight.layout is not torch.strided:
        return f"its weight is no plain tensor ({type(weight.data).__name__}, {weight.layout}): store it as one"
    if weight.dtype not in DTYPES:
        return f"its weight is of {weight.dtype}, no floating point that is quantized here: convert the model, .float()"
    if weight.is_meta:
        return "its weight is on the meta device and has no values: load the weights first"
    if not weight.is_leaf:
        return "its weight was computed with gradients: store it as a parameter of its own, detached"
    if not bool(torch.isfinite(weight.detach()).all()):
        return "its weight holds values that are not finite: load sound weights"
    return ""


@contextmanager
def all_or_nothing(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block the modules may be changed in their attributes; if it fails, they are as they were before.

    Raises:
        CompressionError: in the place of any other failure.
    """
    saved = [(module, module.__class__, _attributes(module)) for module in modules]
    try:
        yield
    except BaseException as error:
        for module, kind, attributes in saved:
            _put_back(module, kind, attributes)
        if isinstance(error, CompressionError) or not isinstance(error, Exception):
            raise
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CompressionError(f"the layers cannot carry quantizers, nothing was changed: {line}") from error


def _attributes(module: nn.Module) -> dict[str, tuple[Any, dict[Any, Any] | None]]:
    """Name → value, and for a dictionary also what is in it: hooks hold on to the dictionary itself."""
    return {name: (value, dict(value) if isinstance(value, dict) else None) for name, value in vars(module).items()}


def _put_back(module: nn.Module, kind: type, attributes: Mapping[str, tuple[Any, dict[Any, Any] | None]]) -> None:
    module.__class__ = kind
    vars(module).clear()
    for name, (value, content) in attributes.items():
        if content is not None:
            value.clear()
            value.update(content)
        vars(module)[name] = value
