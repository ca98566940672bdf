"""A convolution or linear layer as a matrix product: its weight [groups, outputs, d] times rows of d inputs.

A row is what one output of the layer reads: a patch of a convolution (channel by channel, each in the order of its
kernel), or a vector of a linear layer. A transposed convolution reads patches of its input spread out by its stride,
with the kernel turned around.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Layer = nn.Linear | _ConvNd


def matrix(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """A weight of ``layer`` as a matrix for each of its groups: [groups, outputs / groups, d]."""
    if not isinstance(layer, _ConvNd):
        return weight[None]
    if isinstance(layer, _ConvTransposeNd):
        weight = _turned(weight.unflatten(0, (layer.groups, -1)).transpose(1, 2), layer)
    return weight.reshape(layer.groups, layer.out_channels // layer.groups, -1)


def weight_of(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`matrix`: a tensor in the shape of the weight."""
    if not isinstance(layer, _ConvNd):
        return values[0]
    shape = (layer.groups, layer.out_channels // layer.groups, layer.in_channels // layer.groups, *layer.kernel_size)
    whole = values.reshape(shape)
    if isinstance(layer, _ConvTransposeNd):
        return _turned(whole, layer).transpose(1, 2).flatten(0, 1)
    return whole.flatten(0, 1)


def _turned(weight: torch.Tensor, layer: _ConvNd) -> torch.Tensor:
    """With the positions of the kernel in reverse order."""
    return weight.flip(list(range(-len(layer.kernel_size), 0)))


def rows(layer: nn.Module, x: torch.Tensor, most: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """The rows that ``layer`` reads of an input: [groups, n, d].

    Of each example at most ``most`` rows are taken, those of random positions, the same for all examples of a batch.
    The generator is on the CPU.
    """
    if not isinstance(layer, _ConvNd):
        flat = x.unflatten(0, (len(x), 1)).flatten(1, -2) if x.dim() > 1 else x[None, None]
        return flat[:, _chosen(flat.shape[1], most, generator, x.device)].flatten(0, 1)[None]
    dims = len(layer.kernel_size)
    x = x if x.dim() == dims + 2 else x[None]
    x = _spread(layer, x) if isinstance(layer, _ConvTransposeNd) else _padded(layer, x)
    strides = (1,) * dims if isinstance(layer, _ConvTransposeNd) else layer.stride
    spans = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    counts = [(n - span - 1) // step + 1 for n, span, step in zip(x.shape[2:], spans, strides, strict=True)]
    chosen = _chosen(math.prod(counts), most, generator, x.device)
    offsets = [
        [dilation * i for i in range(size)] for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)
    ]
    parts = []
    for offset in itertools.product(*offsets):  # one position of the kernel at a time: every input that it meets
        window = tuple(
            slice(first, first + step * (count - 1) + 1, step)
            for first, step, count in zip(offset, strides, counts, strict=True)
        )
        parts.append(x[(slice(None), slice(None), *window)].flatten(2)[:, :, chosen])
    patches = torch.stack(parts, 2)  # [batch, channels, kernel, positions]
    grouped = patches.unflatten(1, (layer.groups, -1)).flatten(2, 3)  # [batch, groups, d, positions]
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)


def _chosen(count: int, most: int, generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    if count <= most:
        return torch.arange(count, device=device)
    return torch.randperm(count, generator=generator)[:most].to(device)


def _padded(layer: _ConvNd, x: torch.Tensor) -> torch.Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)


def _spread(layer: _ConvTransposeNd, x: torch.Tensor) -> torch.Tensor:
    """The input with ``stride`` - 1 zeros between its positions, and as many around it as the kernel reaches over."""
    sizes = [step * (n - 1) + 1 for n, step in zip(x.shape[2:], layer.stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *sizes)
    spread[(slice(None), slice(None), *(slice(None, None, step) for step in layer.stride))] = x
    around: list[int] = []
    for dim in reversed(range(len(sizes))):
        reach = layer.dilation[dim] * (layer.kernel_size[dim] - 1) - int(layer.padding[dim])
        around += [reach, reach + layer.output_padding[dim]]
    return F.pad(spread, around)
