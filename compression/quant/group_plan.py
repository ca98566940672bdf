"""What affine groups come to in every layer: the error of their steps and zero points, and what these cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from compression.errors import CompressionError
from compression.quant.allocation import Allocation, LayerAllocation
from compression.quant.groups import fit_groups, grouped, rounded
from compression.quant.tables import check_numbers

SAMPLED = 2048
"""Groups of a layer, at equal distances, that an estimate is made of."""


def group_rounding(
    weights: Mapping[str, torch.Tensor], widths: Mapping[str, int], group: int, clip: str, sampled: bool = False
) -> Allocation:
    """Every weight on the grid of its group of ``group`` neighbours in a row (:mod:`.groups`); nothing is pruned.

    Args:
        weights: layer → its weight.
        widths: layer → the bit-width of a code.
        clip: where the range of a group ends: ``max``, ``mse`` or ``hqq``.
        sampled: errors of large layers are those of 2048 of their groups, times as many as they stand for.

    Raises:
        CompressionError: weights that are not finite, or none at all.
    """
    layers = tuple(
        _layer(name, weight, widths[name], group, clip, sampled) for name, weight in weights.items() if weight.numel()
    )
    if not layers:
        raise CompressionError("there is no convolution or linear weight to compress")
    spent = sum(layer.numel * layer.bits for layer in layers)
    size = sum(layer.numel for layer in layers)
    estimated = sampled and any((layer.groups or 0) > SAMPLED for layer in layers)
    note = f"The error of layers of more than {SAMPLED:,} groups is estimated on as many of them."
    return Allocation(
        sparsity=0.0, bits=spent / size, layers=layers, pruned=0, numel=size, value_bits=spent, budget_bits=spent,
        exact=False, zeros="rounded", grid="mixed", notes=(note,) if estimated else (),
    )  # fmt: skip


def _layer(name: str, weight: torch.Tensor, bits: int, group: int, clip: str, sampled: bool) -> LayerAllocation:
    check_numbers(name, weight)
    blocks = grouped(weight.detach().float(), group).reshape(-1, group)
    count = len(blocks)
    part = blocks[:: math.ceil(count / SAMPLED)] if sampled else blocks
    fitted = fit_groups(part, bits, group, clip)
    lines = part.unsqueeze(1)
    error = (lines - rounded(lines, fitted.steps, fitted.zeros, 2.0**bits - 1)).square_().sum(dtype=torch.float64)
    return LayerAllocation(
        name, weight.numel(), 0, 0.0, bits, float(fitted.steps.mean()), float(error) * count / len(part), 0.0,
        group=group, groups=count, clip=clip,  # type: ignore[arg-type]
    )  # fmt: skip
