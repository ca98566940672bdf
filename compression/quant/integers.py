"""Quantized weights as the integers they are: what packing, counting and exporting read, whatever quantizer it was."""

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


@runtime_checkable
class WeightQuantizer(Protocol):
    """What a quantizer of weights can answer; it is an ``nn.Module`` registered as the parametrization of a weight.

    ``forward(weight)`` equals ``codes(weight).to(torch.float32) * torch.as_tensor(step())`` bit for bit, so that a
    file of integers and one fp32 step a layer, or a channel, restores the very weights that were evaluated; where the
    quantizer is :class:`Shifted`, it equals :func:`values` of them.
    """

    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """The integers: int32, the weight's shape, 0 where pruned."""
        ...

    def step(self) -> Step:
        """The distance between neighbouring values, exactly fp32 (``d`` in GETA, the Laplace step in OPQ)."""
        ...

    def bits(self) -> float:
        """The bit-width that the codes need; a whole number once training is over."""
        ...

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with, fp32."""
        ...


@runtime_checkable
class Shifted(Protocol):
    """A quantizer whose levels may begin beyond an offset."""

    def shift(self) -> float | None:
        """The fp32 offset from which levels are counted; ``None`` where they are multiples of the step."""
        ...


def values(codes: torch.Tensor, step: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    """What codes stand for: k·step, or with an offset sign(k)·((abs(k) - 1/2)·step + offset), and 0 for code 0.

    ``codes`` are whole numbers in floating point, and are overwritten; ``step`` and ``offset`` broadcast to them. Every
    operation rounds by itself, so that decoders elsewhere get the same bits.
    """
    if offset is None:
        return codes.mul_(step).add_(0.0)  # which turns -0 into +0
    sign = codes.sign()
    return codes.abs_().sub_(0.5).mul_(step).add_(offset).mul_(sign).add_(0.0)


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """One layer's weight as integers: ``codes`` int32 in its shape, ``step`` in fp32 precision, ``bits`` whole.

    ``offset``, in fp32 precision, is from where its levels are counted if they are not multiples of the step.
    """

    name: str
    codes: torch.Tensor
    step: Step
    bits: int
    offset: float | None = None

    def weight(self) -> torch.Tensor:
        """The fp32 weight these integers stand for."""
        return self.of(self.codes)

    def of(self, codes: torch.Tensor) -> torch.Tensor:
        """What these codes, in a shape that the step broadcasts to, would stand for: fp32."""
        step, offset = (
            None if number is None else torch.as_tensor(number, dtype=torch.float32, device=codes.device)
            for number in (self.step, self.offset)
        )
        assert step is not None
        return values(codes.to(torch.float32, copy=True), step, offset)

    @property
    def axis(self) -> int | None:
        """The dimension along which each channel has a step of its own; ``None`` where one step serves them all."""
        if not isinstance(self.step, torch.Tensor):
            return None
        return next((dim for dim, size in enumerate(self.step.shape) if size > 1), None)

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


def integer_weights(model: nn.Module) -> dict[str, IntegerWeight]:
    """Layer name → its weight as integers, for every layer that carries a quantizer."""
    found = {}
    with torch.no_grad():
        for name, module, quantizer in _quantized(model):
            raw = _parametrizations(module)[WEIGHT].original
            offset = quantizer.shift() if isinstance(quantizer, Shifted) else None
            found[name] = IntegerWeight(name, quantizer.codes(raw), quantizer.step(), round(quantizer.bits()), offset)
    return found


def fold(model: nn.Module) -> nn.Module:
    """A deep copy of plain modules whose weights equal the fake-quantized ones bit for bit; ``model`` is left as it is.

    Parametrizations are replaced by their values, shared parameters stay shared, and quantizers of activations stay
    where they are. (``torch.nn.utils.parametrize.remove_parametrizations`` will not do: it deletes the property from
    the class, which a deep copy shares with the model it was copied from.)
    """
    folded = deep_copy(model)
    values: dict[int, nn.Parameter] = {}
    for module in list(folded.modules()):
        if parametrize.is_parametrized(module):
            _fold_module(module, values)
    forget_hooks(folded)
    return folded


def forget_hooks(model: nn.Module) -> None:
    """Take away the hooks that quantize all weights together (:mod:`.together`), wherever in the model they are."""
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
