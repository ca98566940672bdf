"""What flows into a layer on average, from the batch norm in front of it alone (Nagel et al., arXiv 1906.04721, 4.2.1).

If the outputs of a batch norm are normal, with mean β and deviation γ, those of the ReLU behind it have the mean
γφ(β/γ) + βΦ(β/γ), where φ and Φ are the density and the distribution function of the standard normal distribution.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from compression.graph import Graph

RELU = frozenset({"aten.relu", "aten.relu_"})


def rectified_mean(beta: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """E max(0, x) of normal x with mean β and deviation |γ|, elementwise."""
    spread = gamma.abs()
    ratio = beta / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    density = (-ratio.square() / 2).exp() / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(ratio)
    return torch.where(spread > 0, spread * density + beta * below, beta.clamp(min=0))


@torch.no_grad()
def expected_inputs(dense: nn.Module, graph: Graph) -> dict[str, torch.Tensor]:
    """Layer → the mean of each of its input channels, fp64 on the CPU, where a batch norm is directly in front of it or
    a ReLU alone is between them.

    Zeros that a convolution reads beside a picture are not counted. Layers that run more than once, transposed
    convolutions, of which an output reads a part of the kernel, and norms without weights have no entry.
    """
    nodes = {node.id: node for node in graph.nodes}
    sources = defaultdict(list)
    for source, target in graph.edges:
        sources[target].append(source)
    calls = Counter(node.layer for node in graph.nodes)
    means = {}
    for node in graph.nodes:
        if node.layer is None or calls[node.layer] != 1 or len(sources[node.id]) != 1:
            continue
        layer, before = dense.get_submodule(node.layer), nodes[sources[node.id][0]]
        rectified = before.op in RELU
        if rectified and len(sources[before.id]) == 1:
            before = nodes[sources[before.id][0]]
        norm = dense.get_submodule(before.module) if before.kind == "norm" else None
        if not isinstance(norm, _BatchNorm) or isinstance(layer, _ConvTransposeNd) or not _fits(norm, layer):
            continue
        gamma, beta = norm.weight.detach().cpu().double(), norm.bias.detach().cpu().double()
        means[node.layer] = rectified_mean(beta, gamma) if rectified else beta
    return means


def _fits(norm: Any, layer: Any) -> bool:
    """Whether the channels of the norm are those that the layer reads, and the norm has numbers of its own."""
    channels = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    return norm.affine and norm.track_running_stats and norm.num_features == channels
