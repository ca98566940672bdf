"""Which positions of which tensors are removed with given units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch

from compression.graph.types import Graph

Cuts = Mapping[str, Sequence[tuple[int, torch.Tensor]]]


def cuts(graph: Graph, units: Mapping[str, Sequence[int]]) -> dict[str, list[tuple[int, torch.Tensor]]]:
    """Canonical tensor name → (dim, int64 positions to drop), each dim once; from group id → units removed."""
    positions: dict[str, dict[int, list[torch.Tensor]]] = defaultdict(lambda: defaultdict(list))
    for group_id, chosen in units.items():
        for member in graph.group(group_id).members:
            positions[member.name][member.dim].append(member.positions[list(chosen)].flatten())
    return {name: [(dim, torch.cat(parts)) for dim, parts in dims.items()] for name, dims in positions.items()}


def without(tensor: torch.Tensor, dropped: Iterable[tuple[int, torch.Tensor]]) -> torch.Tensor:
    """The tensor without these positions, contiguous."""
    for dim, positions in dropped:
        keep = torch.ones(tensor.shape[dim], dtype=torch.bool)
        keep[positions] = False
        tensor = tensor.index_select(dim, torch.nonzero(keep).flatten().to(tensor.device))
    return tensor.contiguous()


def put_back(
    tensor: torch.Tensor, dropped: Iterable[tuple[int, torch.Tensor]], shape: Sequence[int], fill: float
) -> torch.Tensor:
    """A tensor from which :func:`without` took these positions, in the ``shape`` it had, ``fill`` in their place."""
    for dim, positions in dropped:
        keep = torch.ones(shape[dim], dtype=torch.bool)
        keep[positions] = False
        wider = tensor.new_full((*tensor.shape[:dim], shape[dim], *tensor.shape[dim + 1 :]), fill)
        tensor = wider.index_copy_(dim, torch.nonzero(keep).flatten(), tensor.detach())
    return tensor


def along(tensor: torch.Tensor, dropped: Iterable[tuple[int, torch.Tensor]]) -> torch.Tensor:
    """A tensor that broadcasts to another one (a step per channel), without the positions removed from that one."""
    return without(tensor, [(dim, positions) for dim, positions in dropped if tensor.shape[dim] > 1])
