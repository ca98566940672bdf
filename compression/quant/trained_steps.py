"""Quantization-aware training at whole bit-widths, in which steps are trained (LSQ, arXiv 1902.08153; UniQ)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import nn

from compression.quant.attach import activation_quantizers
from compression.quant.integers import weight_quantizers
from compression.quant.kernels import SMALLEST
from compression.quant.midrise import MidriseQuantizer
from compression.quant.quantizer import Quantizer, levels

LARGEST_CHANGE = 0.1
"""One update changes a step by at most this share of it."""


class TrainedSteps:
    """Updates Δ of every mid-rise quantizer of weights, and of every learnable quantizer of inputs, at its bits.

    An input quantizer has q_m = N Δ with N = levels(b): Δ gets dL/dd + N dL/dq_m, and q_m follows. (Where
    :class:`.fixed_bits.FixedBits` trains q_m in its place, one step moves Δ by 1/N² as much.)
    """

    def __init__(self, model: nn.Module) -> None:
        """Bits of inputs are those that their quantizers have now, brought to whole numbers."""
        distinct = {id(q): q for q in weight_quantizers(model).values() if isinstance(q, MidriseQuantizer)}
        self._of_weights = list(distinct.values())
        inputs = activation_quantizers(model).values()
        self._of_inputs = [(quantizer, round(quantizer.bits())) for quantizer in inputs]
        self.train()
        self.hold()

    def train(self, mode: bool = True) -> None:
        """Whether steps collect gradients: off while an optimizer is created that must not train them."""
        for quantizer in self._all():
            quantizer.requires_grad_(mode)

    def read_bits(self) -> None:
        """Hold every quantizer of inputs to the whole bit-width that it has now: it was set from outside."""
        self._of_inputs = [(quantizer, round(quantizer.bits())) for quantizer, _ in self._of_inputs]

    @torch.no_grad()
    def hold(self) -> None:
        """Bring steps back above 0, and clipping bounds to N Δ: after they were averaged, or changed from outside."""
        for each in self._all():
            each.step_size.clamp_(min=SMALLEST)
        for quantizer, bits in self._of_inputs:
            quantizer.clip.copy_(quantizer.step_size * levels(bits, quantizer.is_unsigned))

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One gradient step of every Δ; the gradients are used up."""
        for each in self._of_weights:
            _descend(each.step_size, each.step_size.grad, lr)
        for quantizer, bits in self._of_inputs:
            size, clip = quantizer.step_size, quantizer.clip
            if size.grad is not None and clip.grad is not None:
                _descend(size, size.grad + clip.grad * levels(bits, quantizer.is_unsigned), lr)
            clip.grad = None
        for held in self._all():
            held.step_size.grad = None
        self.hold()

    def _all(self) -> Iterator[MidriseQuantizer | Quantizer]:
        return chain(self._of_weights, (quantizer for quantizer, _ in self._of_inputs))


def _descend(size: torch.Tensor, slope: torch.Tensor | None, lr: float) -> None:
    if slope is not None:
        most = size * LARGEST_CHANGE
        size.sub_((slope * lr).clamp(-most, most))
