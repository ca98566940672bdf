"""Small networks of chosen parts that tie channels: they show on a real module what is removed with a channel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.trace import trace
from compression.graph.types import Graph, Group

PARTS = ("residual", "concat", "depthwise", "heads", "flatten")
INPUT = (1, 4, 4)
WIDTH, BRANCH, HEADS, HEAD_WIDTH, CLASSES = 6, 4, 2, 3, 3


class DemoNetwork(nn.Module):
    """A convolution with its norm, then the chosen parts in the order of :data:`PARTS`, then a classifier ``head``."""

    def __init__(self, parts: Collection[str]) -> None:
        super().__init__()
        unknown = sorted(set(parts) - set(PARTS))
        if unknown:
            raise CompressionError(f"no part {unknown[0]!r}; parts: {', '.join(PARTS)}")
        self.parts = frozenset(parts)
        self.first = nn.Conv2d(INPUT[0], WIDTH, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)
        width = WIDTH
        if "residual" in parts:
            self.residual = nn.Conv2d(width, width, 3, padding=1)
        if "concat" in parts:
            self.branch = nn.Conv2d(width, BRANCH, 3, padding=1)
            width += BRANCH
        if "depthwise" in parts:
            self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        if "heads" in parts:
            inner = HEADS * HEAD_WIDTH
            self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
            self.merge = nn.Linear(inner, width)
        self.pool = nn.AdaptiveAvgPool2d(2 if "flatten" in parts else 1)
        self.head = nn.Linear(width * (4 if "flatten" in parts else 1), CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 1, 4, 4] to [B, 3]."""
        x = torch.relu(self.norm(self.first(x)))
        if "residual" in self.parts:
            x = torch.relu(x + self.residual(x))
        if "concat" in self.parts:
            x = torch.cat([x, torch.relu(self.branch(x))], 1)
        if "depthwise" in self.parts:
            x = torch.relu(self.depthwise(x))
        if "heads" in self.parts:
            x = self._attend(x)
        return self.head(self.pool(x).flatten(1))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = (
            layer(tokens).view(batch, height * width, -1, HEAD_WIDTH).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.merge(mixed).transpose(1, 2).unflatten(2, (height, width))


@dataclass(frozen=True)
class Dependents:
    """What is removed with one row of a layer: its ``group`` and ``unit``, and (parameter, axis) → positions."""

    group: Group
    unit: int
    positions: dict[tuple[str, int], tuple[int, ...]]


def build(parts: Collection[str]) -> tuple[DemoNetwork, Graph]:
    """A network with seeded weights and norm statistics that are not trivial, and its graph.

    Raises:
        CompressionError: an unknown part.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DemoNetwork(parts)
        nn.init.uniform_(net.norm.weight, 0.5, 1.5)
        nn.init.uniform_(net.norm.bias, -0.5, 0.5)
    return net.eval(), trace(net, torch.zeros(1, *INPUT))


def dependents(graph: Graph, weight: str, row: int) -> Dependents:
    """Everything that belongs to row ``row`` of a parameter.

    Raises:
        CompressionError: no group contains this row.
    """
    for group in graph.groups:
        for member in group.members:
            if member.name == weight and member.dim == 0 and member.role == "producer":
                units = (member.positions == row).any(dim=1).nonzero().flatten().tolist()
                if units:
                    return Dependents(group, units[0], _positions(group, units[0]))
    raise CompressionError(f"no group holds row {row} of {weight}")


def _positions(group: Group, unit: int) -> dict[tuple[str, int], tuple[int, ...]]:
    positions: dict[tuple[str, int], tuple[int, ...]] = {}
    for member in group.members:
        if not member.buffer:
            key = (member.name, member.dim)
            positions[key] = (*positions.get(key, ()), *member.positions[unit].tolist())
    return positions
