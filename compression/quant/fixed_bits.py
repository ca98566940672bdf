"""Quantization-aware training at fixed bit-widths: clipping bounds are trained, and the steps follow them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from compression.quant import activation_quantizers, weight_quantizers
from compression.quant.quantizer import Quantizer, levels

LARGEST_CHANGE = 0.1
"""One update changes a clipping bound by at most this share of it."""


class FixedBits:
    """Holds every quantizer to a whole bit-width b while its clipping bound q_m, and an exponent t, are trained.

    d = q_m^t / N with N = levels(b). Through that equation the others get the gradient of d, too:
    dL/dq_m + t d / q_m dL/dd (without an exponent dL/dq_m + dL/dd / N) and dL/dt + d ln(q_m) dL/dd.
    """

    def __init__(
        self, model: nn.Module, weight_bits: Mapping[str, int], activation_bits: Mapping[str, int] | None
    ) -> None:
        quantizers = {
            id(q): (q, weight_bits[name]) for name, q in weight_quantizers(model).items() if name in weight_bits
        }
        for name, quantizer in activation_quantizers(model).items():
            quantizers[id(quantizer)] = (quantizer, (activation_bits or {})[name])
        self._held = [(quantizer, bits) for quantizer, bits in quantizers.values() if isinstance(quantizer, Quantizer)]
        self.hold()

    def read_bits(self) -> None:
        """Hold every quantizer to the whole bit-width that it has now: it was set from outside."""
        self._held = [(quantizer, round(quantizer.bits())) for quantizer, _ in self._held]

    def train(self, mode: bool = True) -> None:
        """Whether the scalars collect gradients: off while an optimizer is created that must not train them."""
        for quantizer, _ in self._held:
            quantizer.requires_grad_(mode)

    def hold(self) -> None:
        """Recompute every step from its bit-width and the present clipping bound."""
        for quantizer, bits in self._held:
            quantizer.set_bits(bits)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One gradient step of the clipping bounds and exponents; their gradients are used up."""
        for quantizer, bits in self._held:
            clip, size, power = quantizer.clip, quantizer.step_size, quantizer.exponent
            if clip.grad is not None and size.grad is not None:
                through = size.grad / levels(bits, quantizer.is_unsigned)
                slopes = [(clip, clip.grad + (through if power is None else through * power * clip ** (power - 1)))]
                if power is not None and power.grad is not None:
                    slopes.append((power, power.grad + through * clip**power * clip.log()))
                for scalar, slope in slopes:
                    most = scalar.abs() * LARGEST_CHANGE
                    scalar.sub_((slope * lr).clamp(-most, most))
            clip.grad = size.grad = None
            if power is not None:
                power.grad = None
        self.hold()
