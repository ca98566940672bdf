"""The learnable quantizer: step, clipping bounds, exponent, the values they allow, and the resulting bit-width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from compression import devices
from compression.errors import RunFailed
from compression.quant.integers import IntegerWeight, Step, grid_kind
from compression.quant.kernels import SMALLEST
from compression.quant.op import quantized, round_to_codes

_WHOLE = 1e-4
UNSIGNED = "unsigned"
"""The buffer of a quantizer without a sign, by which its state dict tells it from others."""


def levels(bits: float, unsigned: bool = False) -> float:
    """Return the number of positive values of a quantizer of ``bits`` bits: ``2 ** (b - 1) - 1``.

    An ``unsigned`` one spends no bit on the sign and has ``2 ** b - 1``.
    """
    return float(2.0 ** (bits if unsigned else bits - 1) - 1)


def bit_width(
    step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor | None = None, unsigned: bool = False
) -> torch.Tensor:
    """Return ``b = log2(q_m ** t / d + 1) + 1``, a real number (GETA, section 3.1); any shapes that broadcast.

    The 1 added is the sign's bit, which an ``unsigned`` quantizer does not have.
    """
    exact = devices.exact_dtype(clip.device)
    bound = clip.to(exact).clamp(min=SMALLEST)
    top = bound if exponent is None else bound.pow(exponent.to(exact))
    return torch.log2(top / step_size.to(exact).clamp(min=SMALLEST) + 1) + (0 if unsigned else 1)


@dataclass(frozen=True, eq=False)
class Ready:
    """A weight quantized before its layer's forward pass (:mod:`.together`), valid for this ``original`` only."""

    original: torch.Tensor
    value: torch.Tensor

    def fits(self, x: torch.Tensor) -> bool:
        """Whether ``value`` can replace quantizing ``x`` now (not where checkpointing follows the saved tensors)."""
        return x is self.original and torch.is_grad_enabled() and not saving_is_watched()


def saving_is_watched() -> bool:
    """Whether hooks follow the tensors autograd saves, as activation checkpointing does; true where unknown."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None


class Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(scaled: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return scaled.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[no-untyped-def]
        return upstream * ctx.saved_tensors[0], None


class Quantizer(nn.Module):
    """Symmetric fake quantizer: learnable step ``d``, clipping bound ``q_m`` and optional exponent ``t``.

    Zero stays exactly zero, which pruning relies on. With an exponent the result is in the space of ``|x| ** t``;
    without one (``t = 1``) it is the uniform quantizer, whose codes serve integer arithmetic. ``gradient_scale``
    multiplies the gradients of step, bound and exponent, which are sums over n numbers, by ``1 / sqrt(n * levels)``
    (LSQ); n is the size of the tensor, or of its channel.

    An ``unsigned`` quantizer is for numbers that are never negative: codes 0 … 2^b - 1 and ``d = q_m ** t / (2^b - 1)``
    give it half the step at the same bit-width. A state dict has the entry ``unsigned`` for it, and none otherwise.

    Per tensor (GETA) ``clip`` is one number, shape [], and ``step_size`` is ``d``. Per channel ``clip`` holds one bound
    for each, in a shape that broadcasts to the tensor (``[C, 1, 1, 1]``), and ``step_size`` is one number for all:
    channel c has ``d[c] = step_size * q_m[c] ** t``. A layer therefore has one bit-width at every step of training,
    which follows from this scalar with 1 in place of ``q_m ** t``: projection, joint step and whole bits work on the
    scalar. (Independent steps of channels would each need a projection onto a common bit-width.)
    """

    def __init__(
        self,
        clip: float | torch.Tensor,
        bits: float = 16,
        exponent: float | None = None,
        gradient_scale: bool = False,
        unsigned: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_scale = gradient_scale
        if unsigned:
            self.register_buffer(UNSIGNED, torch.tensor(True))
        bounds = torch.as_tensor(clip, dtype=torch.get_default_dtype()).detach()
        self.clip = nn.Parameter(bounds.clamp(min=SMALLEST))
        self.exponent = None if exponent is None else nn.Parameter(torch.tensor(float(exponent)))
        self.step_size = nn.Parameter(torch.tensor(1.0))
        self.ready: Ready | None = None
        self.set_bits(bits)

    @property
    def is_unsigned(self) -> bool:
        """Whether its numbers are never negative, and no bit is spent on their sign."""
        return UNSIGNED in self._buffers

    @property
    def per_channel(self) -> bool:
        """Whether each channel has a separate clipping bound."""
        return self.clip.dim() > 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` rounded to the quantizer's values, in its type."""
        if self.ready is not None and self.ready.fits(x):
            return self.ready.value
        return self._values(x).to(x.dtype)

    def _values(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.gradient_scale and torch.is_grad_enabled()):
            return quantized(x, self.steps(), self.clip, self.exponent, self.is_unsigned)
        for_all, for_bounds = self._factors(x.numel())
        exponent = None if self.exponent is None else Scaled.apply(self.exponent, for_all)
        step_size, clip = Scaled.apply(self.step_size, for_all), Scaled.apply(self.clip, for_bounds)
        return quantized(x, self._steps(step_size, clip, exponent), clip, exponent, self.is_unsigned)

    @torch.no_grad()
    def _factors(self, numel: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradient factors of step and exponent, and of the bounds (LSQ, arXiv 1902.08153, section 2.2)."""
        positive = self.top() / self.step_size.clamp(min=SMALLEST)
        sizes = (max(1, numel), max(1, numel // max(1, self.clip.numel())))
        for_all, for_bounds = ((positive * size).clamp(min=SMALLEST).rsqrt() for size in sizes)
        return for_all, for_bounds

    def top(self) -> torch.Tensor:
        """Return the value of ``step_size`` at one level, shape []: ``q_m ** t``, or 1 with separate channels."""
        if self.per_channel:
            return torch.ones_like(self.step_size)
        return self.clip if self.exponent is None else self.clip.pow(self.exponent)

    def steps(self) -> torch.Tensor:
        """Return ``d``, differentiable: shape [], or that of ``clip``."""
        return self._steps(self.step_size, self.clip, self.exponent)

    def _steps(self, step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor | None) -> torch.Tensor:
        if not self.per_channel:
            return step_size
        return step_size * (clip if exponent is None else clip.clamp(min=SMALLEST).pow(exponent))

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """Return the integer codes of :meth:`forward`, int32, shape of ``x``."""
        with torch.no_grad():
            return round_to_codes(x, self.steps(), self.clip, self.exponent, self.is_unsigned).to(torch.int32)

    def step(self) -> Step:
        """Return ``d`` in fp32: a number, or a tensor in the shape of ``clip``."""
        steps = self.steps().detach().float().clamp(min=SMALLEST)
        return steps if self.per_channel else steps.item()

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights: codes times one step, or a step for each channel."""
        return grid_kind(self.clip)

    def encode(self, name: str, weight: torch.Tensor) -> IntegerWeight:
        """The weight of layer ``name`` as integers."""
        return IntegerWeight(name, self.codes(weight), self.step(), round(self.bits()))

    def bit_width(self) -> torch.Tensor:
        """Return the present bit-width, fp64 of shape []."""
        with torch.no_grad():
            if self.per_channel:
                return bit_width(self.step_size, self.top(), unsigned=self.is_unsigned)
            return bit_width(self.step_size, self.clip, self.exponent, self.is_unsigned)

    def bits(self) -> float:
        """Return the present bit-width; a whole number where it is one within fp32 rounding.

        Raises:
            RunFailed: step or range are no longer finite.
        """
        value = float(self.bit_width())
        if not math.isfinite(value):
            raise RunFailed("training diverged (a quantizer is no longer finite): choose a smaller learning rate")
        return float(round(value)) if math.isclose(value, round(value), abs_tol=_WHOLE) else value

    def set_bits(self, bits: float) -> None:
        """Set ``d = q_m ** t / levels(b)``, the inverse of :func:`bit_width`."""
        with torch.no_grad():
            self.step_size.copy_(self.top() / levels(bits, self.is_unsigned))

    def extra_repr(self) -> str:
        """Return the text in ``print(model)``."""
        low, high = (float(end) for end in self.clip.detach().aminmax()) if self.clip.numel() else (0.0, 0.0)
        bounds = f"{low:.4g} to {high:.4g}" if self.per_channel else f"{high:.4g}"
        return f"bits={self.bits():.2f}, clip={bounds}{', unsigned' if self.is_unsigned else ''}"
