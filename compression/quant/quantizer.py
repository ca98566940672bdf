"""The learnable quantizer: three scalars, the values they allow, and the bit-width that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from compression.quant.kernels import SMALLEST
from compression.quant.op import quantized
from compression.quant.op import round_to_codes

_WHOLE = 1e-4


def levels(bits: float) -> float:
    """How many positive values a symmetric quantizer of this bit-width has: ``2 ** (b - 1) - 1``."""
    return float(2.0 ** (bits - 1) - 1)


def bit_width(step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor | None = None) -> torch.Tensor:
    """``b = log2(q_m ** t / d + 1) + 1``, real-valued while training (GETA section 3.1); any shapes that broadcast."""
    bound = clip.double().clamp(min=SMALLEST)
    top = bound if exponent is None else bound.pow(exponent.double())
    return torch.log2(top / step_size.double().clamp(min=SMALLEST) + 1) + 1


@dataclass(frozen=True, eq=False)
class Ready:
    """A weight's values worked out before its layer asks (:mod:`.together`), good for this very ``original`` only."""

    original: torch.Tensor
    value: torch.Tensor

    def fits(self, x: torch.Tensor) -> bool:
        """Whether ``value`` may stand for quantizing ``x`` now (not where checkpointing watches what is saved)."""
        return x is self.original and torch.is_grad_enabled() and not saving_is_watched()


def saving_is_watched() -> bool:
    """Whether somebody follows which tensors autograd saves, as activation checkpointing does; yes where unknown."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None


class _Scaled(torch.autograd.Function):
    """A scalar as it is, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(scalar: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return scalar.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[no-untyped-def]
        return upstream * ctx.saved_tensors[0], None


class Quantizer(nn.Module):
    """Per-tensor symmetric fake quantizer: learnable step ``d``, clipping bound ``q_m`` and, if asked, exponent ``t``.

    Zero stays exactly zero, which pruning relies on. With an exponent the result lives in the space of ``|x| ** t``;
    without one (``t = 1``) it is the uniform quantizer whose codes integer arithmetic can use. ``gradient_scale``
    multiplies the scalars' gradients, which are sums over a whole tensor, by ``1 / sqrt(numel * levels)`` (LSQ).
    """

    def __init__(
        self, clip: float, bits: float = 16, exponent: float | None = None, gradient_scale: bool = False
    ) -> None:
        super().__init__()
        self.gradient_scale = gradient_scale
        self.clip = nn.Parameter(torch.tensor(max(float(clip), SMALLEST)))
        self.exponent = None if exponent is None else nn.Parameter(torch.tensor(float(exponent)))
        self.step_size = nn.Parameter(torch.tensor(1.0))
        self.ready: Ready | None = None
        self.set_bits(bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` rounded to the quantizer's values, fp32."""
        if self.ready is not None and self.ready.fits(x):
            return self.ready.value
        if not self.gradient_scale:
            return quantized(x, self.step_size, self.clip, self.exponent)
        factor = self._factor(x.numel())
        exponent = None if self.exponent is None else _Scaled.apply(self.exponent, factor)
        return quantized(x, _Scaled.apply(self.step_size, factor), _Scaled.apply(self.clip, factor), exponent)

    @torch.no_grad()
    def _factor(self, numel: int) -> torch.Tensor:
        top = self.clip if self.exponent is None else self.clip.pow(self.exponent)
        return (top / self.step_size.clamp(min=SMALLEST) * max(1, numel)).clamp(min=SMALLEST).rsqrt()

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """The integers behind :meth:`forward`, int32, shape of ``x``."""
        with torch.no_grad():
            return round_to_codes(x, self.step_size, self.clip, self.exponent).to(torch.int32)

    def step(self) -> float:
        """``d``, exactly an fp32 number."""
        return max(float(self.step_size.detach().float()), float(torch.tensor(SMALLEST)))

    def bit_width(self) -> torch.Tensor:
        """The present bit-width, fp64 of shape []."""
        with torch.no_grad():
            return bit_width(self.step_size, self.clip, self.exponent)

    def bits(self) -> float:
        """The present bit-width; within fp32 rounding of a whole number it is that number."""
        value = float(self.bit_width())
        return float(round(value)) if math.isclose(value, round(value), abs_tol=_WHOLE) else value

    def set_bits(self, bits: float) -> None:
        """Choose ``d = q_m ** t / (2 ** (b - 1) - 1)``, the inverse of :func:`bit_width`."""
        with torch.no_grad():
            top = self.clip if self.exponent is None else self.clip.pow(self.exponent)
            self.step_size.copy_(top / levels(bits))

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"bits={self.bits():.2f}, clip={float(self.clip.detach()):.4g}"
