"""Where weights are clipped: the bound q_m with the least squared error, rather than the largest magnitude."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.quant.integers import WEIGHT
from compression.quant.integers import quantizer_of
from compression.quant.quantizer import Quantizer
from compression.quant.quantizer import levels

SAMPLE = 1 << 16  # values of a tensor that are looked at
TRIED = 100  # bounds tried, at equal distances up to the largest magnitude


def best_clip(weight: torch.Tensor, bits: float) -> float:
    """The clipping bound at which rounding ``weight`` uniformly to ``bits`` bits has the least squared error.

    Few bits gain much: a coarse grid up to a lone large value serves all the others badly. 0 for an all-zero tensor.
    """
    flat = weight.detach().float().flatten()
    flat = flat[flat != 0]
    values = flat[:: max(1, len(flat) // SAMPLE)]
    if not len(values):
        return 0.0
    errors = []
    bounds = values.abs().max() * torch.arange(1, TRIED + 1) / TRIED
    for bound in bounds:
        step = bound / levels(bits)
        errors.append((values.clamp(-bound, bound).div(step).round_().mul_(step).sub_(values)).square_().sum())
    return float(bounds[int(torch.stack(errors).argmin())])


@torch.no_grad()
def fit_clips(model: nn.Module, bits_of: Callable[[str, Quantizer], float]) -> None:
    """Give every learnable weight quantizer its best bound for ``bits_of(layer, quantizer)``; bit-widths stay.

    Quantizers with an exponent are left alone: their values are no uniform grid. Shared ones are fitted once.
    """
    fitted: set[Quantizer] = set()
    for name, module in model.named_modules():
        quantizer = quantizer_of(module)
        if not isinstance(quantizer, Quantizer) or quantizer.exponent is not None or quantizer in fitted:
            continue
        fitted.add(quantizer)
        held = quantizer.bits()
        bound = best_clip(_latent(module), bits_of(name, quantizer))
        if bound > 0:
            quantizer.clip.fill_(bound)
            quantizer.set_bits(held)


def _latent(module: nn.Module) -> torch.Tensor:
    """The weight before rounding."""
    parametrizations = module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict) and parametrize.is_parametrized(module, WEIGHT)
    found = parametrizations[WEIGHT].original
    assert isinstance(found, torch.Tensor)
    return found
