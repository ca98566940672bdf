"""Quantized weights as values: what quantizers give and what counting, packing and exporting read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.graph.copies import deep_copy

WEIGHT = "weight"

Step = float | torch.Tensor
"""One number for a whole weight, or fp32 numbers for its channels in a shape that broadcasts to it ([C, 1, 1, 1])."""


class QuantizedWeight(Protocol):
    """One layer's weight in some encoding: what counting, packing and exporting know of it whatever its ``kind``.

    ``name``: the layer; ``kind``: the key of its encoding in :mod:`compression.encodings`, which knows the rest;
    ``bits``: whole, those of one code; ``shape``: of the weight; ``zeros``: how many of its elements are 0.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def zeros(self) -> int: ...

    def weight(self) -> torch.Tensor:
        """The fp32 weight that it stands for, bit for bit the one its quantizer computes."""
        ...


@runtime_checkable
class WeightQuantizer(Protocol):
    """What a quantizer of weights can answer; it is an ``nn.Module`` registered as the parametrization of a weight.

    ``forward(weight)`` equals ``encode(name, weight).weight()`` bit for bit, so that a file of the encoded weight
    restores the very weights that were evaluated.
    """

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights."""
        ...

    def encode(self, name: str, weight: torch.Tensor) -> QuantizedWeight:
        """The weight of layer ``name`` in that encoding."""
        ...

    def bits(self) -> float:
        """The bit-width that the codes need; a whole number once training is over."""
        ...

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with, fp32."""
        ...


def values(codes: torch.Tensor, step: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    """The values of codes: k·step, or with an offset sign(k)·((abs(k) - 1/2)·step + offset), and 0 for code 0.

    ``codes`` are whole numbers in floating point, and are overwritten; ``step`` and ``offset`` broadcast to them. Every
    operation rounds by itself, so that decoders elsewhere get the same bits.
    """
    if offset is None:
        return codes.mul_(step).add_(0.0)  # which turns -0 into +0
    sign = codes.sign()
    return codes.abs_().sub_(0.5).mul_(step).add_(offset).mul_(sign).add_(0.0)


def channel_axis(*numbers: Step | None) -> int | None:
    """The dimension along which steps or offsets differ by channel; ``None`` where one number serves all.

    Raises:
        ValueError: they lie along different dimensions.
    """
    shapes = [number.shape for number in numbers if isinstance(number, torch.Tensor)]
    axes = {dim for shape in shapes for dim, size in enumerate(shape) if size != 1}
    if len(axes) > 1:
        raise ValueError(f"steps and offsets lie along dimensions {sorted(axes)}: there must be one")
    return axes.pop() if axes else None


def grid_kind(step: Step, offset: Step | None = None) -> str:
    """The kind of encoding of codes on this grid: ``uniform``, ``offset``, or one of them with ``-channel``."""
    return ("uniform" if offset is None else "offset") + ("" if channel_axis(step, offset) is None else "-channel")


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """A weight on a grid: ``codes`` int32 in its shape, ``step`` in fp32 precision, ``bits`` whole.

    ``offset``, in fp32 precision, is where its levels begin if they are not multiples of the step (see :func:`values`).
    """

    name: str
    codes: torch.Tensor
    step: Step
    bits: int
    offset: Step | None = None

    def weight(self) -> torch.Tensor:
        """The fp32 weight these integers stand for."""
        return self.dequantize(self.codes)

    def dequantize(self, codes: torch.Tensor) -> torch.Tensor:
        """The fp32 values of these codes, in a shape that steps and offsets broadcast to."""
        step, offset = (
            None if number is None else torch.as_tensor(number, dtype=torch.float32, device=codes.device)
            for number in (self.step, self.offset)
        )
        assert step is not None
        return values(codes.to(torch.float32, copy=True), step, offset)

    @property
    def kind(self) -> str:
        """The kind of its encoding."""
        return grid_kind(self.step, self.offset)

    @property
    def axis(self) -> int | None:
        """The dimension along which channels have separate steps or offsets; ``None`` where one serves them all."""
        return channel_axis(self.step, self.offset)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight."""
        return tuple(self.codes.shape)

    @property
    def zeros(self) -> int:
        """How many codes are 0."""
        return self.codes.numel() - int(torch.count_nonzero(self.codes))

    @property
    def steps(self) -> list[float]:
        """Its steps in order, one or one a channel."""
        return torch.as_tensor(self.step).reshape(-1).tolist()


def quantizer_of(module: nn.Module) -> WeightQuantizer | None:
    """The quantizer on this module's weight, or ``None``."""
    if not parametrize.is_parametrized(module, WEIGHT):
        return None
    for candidate in _parametrizations(module)[WEIGHT]:
        if isinstance(candidate, WeightQuantizer):
            return candidate
    return None


def weight_quantizers(model: nn.Module) -> dict[str, WeightQuantizer]:
    """Layer name → the quantizer on its weight, in the model's order; empty when nothing is quantized."""
    return {name: quantizer for name, _, quantizer in _quantized(model)}


def integer_weights(model: nn.Module) -> dict[str, QuantizedWeight]:
    """Layer name → its weight as it is encoded, for every layer that carries a quantizer."""
    with torch.no_grad():
        return {
            name: quantizer.encode(name, _parametrizations(module)[WEIGHT].original)
            for name, module, quantizer in _quantized(model)
        }


def fold(model: nn.Module) -> nn.Module:
    """A deep copy of plain modules whose weights equal the fake-quantized ones bit for bit; ``model`` is not changed.

    Parametrizations are replaced by their values, shared parameters stay shared, and quantizers of activations stay.
    (``torch.nn.utils.parametrize.remove_parametrizations`` will not do: it deletes the property from the class, which a
    deep copy shares with the model it was copied from.)
    """
    folded = deep_copy(model)
    values: dict[int, nn.Parameter] = {}
    for module in list(folded.modules()):
        if parametrize.is_parametrized(module):
            _fold_module(module, values)
    forget_hooks(folded)
    return folded


def forget_hooks(model: nn.Module) -> None:
    """Remove the hooks that quantize all weights together (:mod:`.together`), wherever in the model they are."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key, hook in list(hooks.items()):
                if getattr(getattr(hook, "__self__", None), "quantizes_together", False):
                    del hooks[key]
                    module._forward_hooks_always_called.pop(key, None)


def _fold_module(module: nn.Module, values: dict[int, nn.Parameter]) -> None:
    plain: dict[str, nn.Parameter | None] = {}
    for tensor_name, chain in _parametrizations(module).items():
        key = id(chain.original) if chain.is_tensor else id(chain)
        if key not in values:
            with torch.no_grad():
                trains = any(parameter.requires_grad for parameter in chain.parameters(recurse=False))
                values[key] = nn.Parameter(chain().detach().clone(), requires_grad=trains)
        plain[tensor_name] = values[key]
    others = dict(module._parameters)
    plain_class = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    module.__class__ = plain_class
    module._parameters.clear()
    module._parameters.update({**plain, **others})


def _parametrizations(module: nn.Module) -> Mapping[str, parametrize.ParametrizationList]:
    return cast(Mapping[str, parametrize.ParametrizationList], module.parametrizations)


def _quantized(model: nn.Module) -> Iterator[tuple[str, nn.Module, WeightQuantizer]]:
    for name, module in model.named_modules():
        quantizer = quantizer_of(module)
        if quantizer is not None:
            yield name, module, quantizer
