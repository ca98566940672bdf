"""A quantizer with a learned dead zone: what is nearer to zero than a trained threshold is zero (CoDeQ).

With A the 0.99-quantile of abs(w), τ = A (1 - abs(tanh θ)) half the width of the dead zone, Q = 2^(b-1) - 1 and
s = (A - τ) / (Q - 1/2), a weight beyond τ has the level sgn(w) (τ + (k - 1/2) s), k = 1..Q, the last of which is A
(CoDeQ, arXiv 2512.12981). Gradients pass straight through thresholding, rounding and clamping: dŵ/dw = 1 everywhere, so
that zeros come back where the loss wants it, and the threshold hears of zeros and others alike:

    others   dŵ = (q - z) ds                                z = sgn(w) (abs(w) - m) / s,  m = τ - s / 2
    zeros    dŵ = -sgn(w) (dm + max(abs(w) - m, 0) / s ds)  ds = -dτ / (Q - 1/2),  dm = dτ - ds / 2
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compression.graph.rules import Step as Traced
from compression.graph.rules import rule
from compression.graph.values import Value
from compression.quant.integers import IntegerWeight, values
from compression.quant.kernels import SMALLEST, working_dtype
from compression.quant.laplace import levels_of

QUANTILE = 0.99
SAMPLE = 1 << 20
WIDEST = 0.98  # of A: the widest dead zone


class DeadZoneQuantizer(nn.Module):
    """Parametrization of a weight on ±(τ + (k - 1/2) s), and 0: θ is trained until :meth:`freeze`.

    From then on the zeros are those of ``mask`` (bool, True survives), which get no gradient; τ and A stay.
    A weight of exactly 0 has code 0.
    """

    mask: torch.Tensor
    frozen: torch.Tensor
    reach: torch.Tensor
    offset: torch.Tensor

    def __init__(self, weight: torch.Tensor, threshold: float, bits: int) -> None:
        """``threshold``: the first τ."""
        super().__init__()
        self.width = bits
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("frozen", torch.tensor(False))
        self.register_buffer("reach", torch.tensor(0.0))  # A
        self.register_buffer("offset", torch.tensor(0.0))  # τ once it is fixed
        self.logit = nn.Parameter(torch.tensor(0.0))  # θ
        self.to(weight.device)
        self._read()
        self.measure(weight)
        self.set_threshold(threshold)

    @torch.no_grad()
    def measure(self, weight: torch.Tensor) -> None:
        """Take A anew: the 0.99-quantile of the magnitudes (of at most a million of them)."""
        flat = weight.detach().float().reshape(-1)
        flat = flat[:: max(1, flat.numel() // SAMPLE)].abs()
        self.reach.fill_(float(torch.quantile(flat, QUANTILE).clamp(min=SMALLEST)) if flat.numel() else 1.0)

    @torch.no_grad()
    def set_threshold(self, threshold: float) -> None:
        """Choose θ such that τ is ``threshold``, at most 98 % of A."""
        share = min(max(threshold / float(self.reach), 1e-6), WIDEST)
        self.logit.copy_(torch.atanh(torch.tensor(1.0 - share, dtype=torch.float64)))

    def threshold(self) -> torch.Tensor:
        """τ, fp32 of shape []; differentiable in θ until it is fixed."""
        return self.offset if self.fixed else self.reach * (1 - self.logit.tanh().abs())

    def freeze(self, mask: torch.Tensor) -> None:
        """Zeros are where ``mask`` is False from now on, and θ is trained no longer."""
        self.mask.copy_(mask)
        self.offset.copy_(self.threshold().detach())
        self.frozen.fill_(True)
        self._read()

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with, in the weight's type."""
        wide, mask = weight.to(working_dtype(weight)), self.mask if self.fixed else None
        result: torch.Tensor = dead_zone_quantize(wide, self.threshold(), self.reach, self.width, mask)
        return result.to(weight.dtype)

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights."""
        return "offset"

    @torch.no_grad()
    def encode(self, name: str, weight: torch.Tensor) -> IntegerWeight:
        """The weight of layer ``name`` as integers."""
        wide, threshold = weight.detach().to(working_dtype(weight)), self.threshold()
        codes = _codes(wide, threshold, self.reach, self.width, self.mask if self.fixed else None)
        step = _step(threshold, self.reach, self.width)
        return IntegerWeight(name, codes.to(torch.int32), float(step), self.width, float(threshold))

    def bits(self) -> float:
        """The bits of a code."""
        return float(self.width)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"bits={self.width}, threshold={self.threshold().item():.4g}, reach={self.reach.item():.4g}"

    def _read(self) -> None:
        """A plain number beside the buffer that is saved: reading it in every step would wait for the device."""
        self.fixed = bool(self.frozen)
        self.logit.requires_grad_(not self.fixed)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._read()


def _step(threshold: torch.Tensor, reach: torch.Tensor, bits: int) -> torch.Tensor:
    """s, above 0."""
    return ((reach - threshold) / (levels_of(bits) - 0.5)).clamp(min=SMALLEST)


def _codes(
    weight: torch.Tensor, threshold: torch.Tensor, reach: torch.Tensor, bits: int, mask: torch.Tensor | None
) -> torch.Tensor:
    """sgn(w) k, whole numbers in the weight's dtype; 0 where pruned."""
    step, magnitude = _step(threshold, reach, bits), weight.abs()
    survives = magnitude > threshold if mask is None else mask
    return (magnitude - threshold).div_(step).ceil_().clamp_(1, levels_of(bits)).mul_(weight.sign()).mul_(survives)


@torch.library.custom_op("compression::dead_zone_quantize", mutates_args=())
def dead_zone_quantize(
    weight: torch.Tensor, threshold: torch.Tensor, reach: torch.Tensor, bits: int, mask: torch.Tensor | None
) -> torch.Tensor:
    """A weight on its levels, as one operator that is differentiable in weight and threshold."""
    return values(_codes(weight, threshold, reach, bits, mask), _step(threshold, reach, bits), threshold)


@dead_zone_quantize.register_fake
def _shape_only(
    weight: torch.Tensor, threshold: torch.Tensor, reach: torch.Tensor, bits: int, mask: torch.Tensor | None
) -> torch.Tensor:
    return torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    weight, threshold, reach, ctx.bits, mask = inputs
    ctx.save_for_backward(weight, threshold, reach, mask)


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    weight, threshold, reach, mask = ctx.saved_tensors
    if mask is not None:
        return upstream * mask, None, None, None, None
    # 1. Where each weight lies: z in steps from m, and its code q
    step, sign = _step(threshold, reach, ctx.bits), weight.sign()
    start = threshold - step / 2
    position = (weight.abs() - start) / step
    codes = _codes(weight, threshold, reach, ctx.bits, None)
    # 2. ds and dm for dτ = 1
    steps = -1 / (levels_of(ctx.bits) - 0.5)
    starts = 1 - steps / 2
    # 3. What a wider dead zone does to weights that are zero, and to the others
    zeros, others = -sign * (starts + position.clamp(min=0) * steps), (codes - sign * position) * steps
    slope = torch.where(codes == 0, zeros, others)
    return upstream, (upstream * slope).sum().to(threshold.dtype), None, None, None


dead_zone_quantize.register_autograd(_backward, setup_context=_remember)


@rule("compression.dead_zone_quantize")
def _traced(step: Traced) -> Value:
    """To the graph a quantized weight is owned as the weight is, and its zeros stay zeros."""
    return step.output(*step.operands[0].factors)
