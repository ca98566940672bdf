"""High biases moved into the next layer (Nagel et al., arXiv 1906.04721, section 4.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from compression.posttraining.pairs import Pair, Part, Tensors
from compression.posttraining.ranges import folded_norms
from compression.quant.attach import quantizable_layers

PASSED = frozenset({"relu"})


def absorb_high_biases(model: nn.Module, pairs: Sequence[Pair], tensors: Tensors) -> int:
    """Lower the output of batch norms that a ReLU follows by c = max(0, β - 3|γ|), and give the next layer W·c; in
    place. Returns in how many channels.

    If the norm's outputs are normal, 99.865 % of them are above c, where nothing changes: the range of the
    activation is smaller by c. The next layer takes it into its bias, or into the running mean of a batch norm behind
    it. Convolutions with padding are left out, since they read zeros beside the picture, as are layers that can take it
    into neither.
    """
    layers = {f"{name}.weight": module for name, module in quantizable_layers(model).items()}
    norms = {folded.row.name: weight for weight, folded in folded_norms(pairs).items()}
    return sum(_absorb(pair, layers, norms, tensors) for pair in pairs)


def _absorb(pair: Pair, layers: dict[str, nn.Module], norms: dict[str, str], tensors: Tensors) -> int:
    scales, shifts = pair.having("scale"), pair.having("shift")
    direct = pair.passed == PASSED and len(scales) == len(shifts) == 1 and not pair.having("row", "statistics")
    if not direct or not all(_takes(layers.get(part.name), part.name in norms) for part in pair.columns):
        return 0
    gamma, beta = (tensors[part.name].detach().cpu().double() for part in (scales[0], shifts[0]))
    high = (beta - 3 * gamma.abs()).clamp(min=0)
    units = shifts[0].largest(high, pair.units)
    if not bool(units.any()):
        return 0
    tensors[shifts[0].name].sub_(high.to(tensors[shifts[0].name]))
    for part in pair.columns:
        moved = _read(part, tensors[part.name], units)
        bias: Any = layers[part.name].bias
        if bias is not None:
            bias.add_(moved)
        else:
            tensors[f"{norms[part.name].removesuffix('weight')}running_mean"].sub_(moved)
    return int((units > 0).sum())


def _takes(layer: Any, normed: bool) -> bool:
    """Whether a layer reads no padding, in one group, and has a place for a constant."""
    if layer is None or (layer.bias is None and not normed):
        return False
    if isinstance(layer, nn.Linear):
        return True
    return isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.groups == 1 and not any(layer.padding)


def _read(part: Part, weight: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """W·c, one number for each row, of constants c [units] that the columns read."""
    constants = torch.zeros(part.slot.size, dtype=torch.float64)
    constants[part.positions] = units[part.units]
    matrix = weight.detach().cpu().double().view(len(weight), part.slot.size, -1).sum(-1)
    return (matrix @ constants).to(weight)
