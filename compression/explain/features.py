"""What each channel of a layer makes of one picture, before and after compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression.errors import CompressionError
from compression.explain.models import Pair
from compression.graph import Graph
from compression.graph.cuts import cuts

Maps = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Features:
    """Of one layer: ``dense`` and ``small`` [C, h, w], the latter NaN where a channel is ``removed`` (bool [C])."""

    layer: str
    dense: Maps
    small: Maps
    removed: NDArray[np.bool_]


def offered(graph: Graph, pair: Pair) -> list[str]:
    """The convolutions that both models have, in the order of the network."""
    both = dict(pair.dense.named_modules()).keys() & dict(pair.small.named_modules()).keys()
    return [layer.name for layer in graph.layers if layer.kind.startswith("conv") and layer.name in both]


def features(pair: Pair, graph: Graph, units: Mapping[str, Sequence[int]], layer: str, image: torch.Tensor) -> Features:
    """The outputs of ``layer`` for ``image``, fp32 [1, C, H, W] as the models take it.

    Args:
        pair: the models. graph: of the dense one. units: group id → the units that were removed.
        layer: one of :func:`offered`.
        image: one picture.

    Raises:
        CompressionError: the layer makes no maps.
    """
    weight = next(each.weight for each in graph.layers if each.name == layer)
    dense = _output(pair.dense, layer, image)
    removed = np.zeros(len(dense), dtype=np.bool_)
    for dim, positions in cuts(graph, units).get(weight, ()):
        if dim == 0:
            removed[positions.numpy()] = True
    remaining = _output(pair.small, layer, image)
    if len(remaining) != int((~removed).sum()):
        raise CompressionError(f"layer {layer!r} has other channels than the result says: run its budget again")
    small = np.full_like(dense, np.nan)
    small[~removed] = remaining
    return Features(layer, dense, small, removed)


@torch.no_grad()
def _output(model: nn.Module, layer: str, image: torch.Tensor) -> Maps:
    """What a layer gives for one image, [C, h, w]."""
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model(image)
    finally:
        handle.remove()
    if not seen or seen[0].dim() != 4:
        raise CompressionError(f"layer {layer!r} makes no maps of a picture")
    maps: Maps = seen[0][0].float().cpu().numpy()
    return maps
