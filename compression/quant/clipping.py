"""Clipping bounds of weights: the q_m with the least squared error, in place of the largest magnitude."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.quant.integers import WEIGHT, quantizer_of
from compression.quant.kernels import SMALLEST
from compression.quant.quantizer import Quantizer, levels

SAMPLE = 1 << 16  # values of a tensor that are evaluated
CHANNEL_SAMPLE = 1 << 10  # values of a channel that are evaluated
CANDIDATES = 100  # bounds evaluated, at equal distances up to the largest magnitude


def best_clip(weight: torch.Tensor, bits: float, unsigned: bool = False, exponent: float = 1.0) -> float:
    """Return the clipping bound q_m at which rounding ``weight`` to ``bits`` bits has the least squared error.

    The gain is largest at few bits, where a grid up to one large value is coarse for all the others. With an
    ``exponent`` t it is sgn(w)|w|^t that is rounded, on a grid that ends at q_m^t. 0 for an all-zero tensor.
    """
    flat = weight.detach().float().flatten()
    flat = flat[flat != 0]
    values = flat[:: max(1, len(flat) // SAMPLE)]
    if not len(values):
        return 0.0
    errors = []
    raised = _raised(values, exponent)
    shares = torch.arange(1, CANDIDATES + 1, device=values.device)
    tops = torch.maximum(values.abs().max(), raised.abs().max()) * shares / CANDIDATES
    for top in tops:
        step = top / levels(bits, unsigned)
        errors.append((raised.clamp(-top, top).div(step).round_().mul_(step).sub_(values)).square_().sum())
    return float(tops[int(torch.stack(errors).argmin())] ** (1 / exponent))


def best_channel_clips(weight: torch.Tensor, bits: float, like: torch.Tensor, exponent: float = 1.0) -> torch.Tensor:
    """:func:`best_clip` of each channel, in the shape of ``like``, which broadcasts to ``weight`` ([C, 1, 1, 1])."""
    axis = next((dim for dim, size in enumerate(like.shape) if size > 1), 0)
    rows = weight.detach().float().movedim(axis, 0).reshape(weight.shape[axis], -1)
    values = rows[:, :: max(1, rows.shape[1] // CHANNEL_SAMPLE)]
    raised = _raised(values, exponent)
    largest = rows.abs().amax(1, keepdim=True)
    largest = torch.maximum(largest, largest**exponent)
    best, least = torch.zeros_like(largest), torch.full_like(largest, float("inf"))
    for candidate in range(1, CANDIDATES + 1):
        top = (largest * candidate / CANDIDATES).clamp(min=SMALLEST)
        step = top / levels(bits)
        error = (raised.clamp(-top, top).div(step).round_().mul_(step).sub_(values)).square_().sum(1, keepdim=True)
        better = error < least
        best, least = torch.where(better, top, best), torch.where(better, error, least)
    return torch.where(largest > 0, best ** (1 / exponent), 0.0).reshape(like.shape)


def _raised(values: torch.Tensor, exponent: float) -> torch.Tensor:
    """sgn(w) |w|^t."""
    return values if exponent == 1 else values.abs().pow(exponent).mul_(values.sign())


@torch.no_grad()
def fit_clips(model: nn.Module, bits_of: Callable[[str, Quantizer], float]) -> None:
    """Set the best clipping bounds of every learnable weight quantizer for ``bits_of(layer, quantizer)`` bits.

    Neither bit-widths nor exponents change. A shared quantizer is fitted once.
    """
    fitted: set[Quantizer] = set()
    for name, module in model.named_modules():
        quantizer = quantizer_of(module)
        if not isinstance(quantizer, Quantizer) or quantizer in fitted:
            continue
        fitted.add(quantizer)
        present_bits = quantizer.bits()
        weight, bits = _latent(module), bits_of(name, quantizer)
        power = 1.0 if quantizer.exponent is None else float(quantizer.exponent)
        if quantizer.per_channel:
            bounds = best_channel_clips(weight, bits, quantizer.clip, power)
        else:
            bounds = torch.tensor(best_clip(weight, bits, exponent=power), device=quantizer.clip.device)
        quantizer.clip.copy_(torch.where(bounds > 0, bounds, quantizer.clip))
        quantizer.set_bits(present_bits)


def _latent(module: nn.Module) -> torch.Tensor:
    """The weight before quantization."""
    parametrizations = module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict) and parametrize.is_parametrized(module, WEIGHT)
    original = parametrizations[WEIGHT].original
    assert isinstance(original, torch.Tensor)
    return original
