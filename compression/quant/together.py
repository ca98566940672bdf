"""Quantizes all weights of a model at once before the forward pass of a training step, as one node of autograd.

The weight of a small layer takes microseconds, but between two convolutions the caches are cold and one call takes ten
times as long: on a ResNet-20 a tenth of the step. The values are those that each layer would compute; in evaluation,
tracing, compiling and checkpointing each layer computes them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from compression.quant import kernels
from compression.quant.op import unobserved
from compression.quant.quantizer import Quantizer, Ready, saving_is_watched

Pair = tuple[torch.Tensor, Quantizer]


class _Together(torch.autograd.Function):
    """Maps n weights, their n steps and their n clipping bounds to n quantized weights."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        xs, steps, clips = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        outputs = tuple(map(kernels.values, xs, steps, clips))
        ctx.save_for_backward(*tensors, *outputs)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        count, saved = len(upstream), ctx.saved_tensors
        xs, steps, clips, outputs = (saved[i * count : (i + 1) * count] for i in range(4))
        gradients: list[tuple[torch.Tensor | None, ...]] = [
            (None, None, None) if g is None else kernels.gradients(g, x, output, step, clip)
            for g, x, output, step, clip in zip(upstream, xs, outputs, steps, clips, strict=True)
        ]
        return (None, *(g[0] for g in gradients), *(g[1] for g in gradients), *(g[2] for g in gradients))


class Together:
    """Two hooks of the quantized model, before and after its forward pass; copied with the model."""

    quantizes_together = True

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = list(layers)

    def attach(self, model: nn.Module) -> None:
        """Register the hooks."""
        model.register_forward_pre_hook(self.prepare)
        model.register_forward_hook(self.clear, always_call=True)

    def prepare(self, model: nn.Module, args: Any) -> None:
        """Quantize every weight now, if this is a training step that nothing records."""
        if not (model.training and torch.is_grad_enabled()) or torch.compiler.is_compiling() or saving_is_watched():
            return
        pairs = self._pairs()
        if len(pairs) < 2 or not all(unobserved(x) for x, _ in pairs):
            return
        scalars = [quantizer.steps() for _, quantizer in pairs] + [quantizer.clip for _, quantizer in pairs]
        values: tuple[torch.Tensor, ...] = _Together.apply(len(pairs), *(x for x, _ in pairs), *scalars)
        for pair, value in zip(pairs, values, strict=True):
            pair[1].ready = Ready(pair[0], value.to(pair[0].dtype))

    def clear(self, *_: Any) -> None:
        """Discard the values after the forward pass, also after one that raised."""
        for pair in self._pairs():
            pair[1].ready = None

    def _pairs(self) -> list[Pair]:
        """Return the weights and their uniform quantizers, each once; layers without a quantizer are skipped."""
        pairs: dict[int, Pair] = {}
        for layer in self._layers:
            for chain in getattr(layer, "parametrizations", {}).values():
                for quantizer in chain:
                    plain = isinstance(quantizer, Quantizer) and not quantizer.gradient_scale
                    if plain and quantizer.exponent is None and len(chain) == 1:
                        pairs[id(quantizer)] = (chain.original, quantizer)
        return list(pairs.values())
