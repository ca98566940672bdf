"""What is combined with a quantized weight (a gate, a mask, another weight) is no part of its quantizer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import compression as cx


class Net(nn.Module):
    def __init__(self, weight: Callable[[nn.Module], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.d, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(16, 12), nn.Linear(12, 3)
        self.gate, self.mask, self.weight = nn.Parameter(torch.randn(12, 1)), nn.Parameter(torch.randn(12, 16)), weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(F.linear(torch.relu(self.a(x)), self.weight(self), self.b.bias)))


def groups(graph: cx.graph.Graph) -> list[object]:
    return sorted(
        (g.units, g.prunable, g.exact, sorted((m.name, m.dim, m.role) for m in g.members if m.role != "quantizer"))
        for g in graph.groups
    )


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight", [
    lambda m: m.b.weight * m.gate, lambda m: m.b.weight * m.mask, lambda m: m.b.weight + m.mask,
    lambda m: m.b.weight * 0.5 + m.d.weight * 0.5,
], ids=["gate", "mask", "sum", "two weights"])  # fmt: skip
def test_groups_are_those_of_the_float_network(weight: Callable[[nn.Module], torch.Tensor], per_channel: bool) -> None:
    torch.manual_seed(0)
    model, x = Net(weight).eval(), torch.randn(2, 6)
    quantized = cx.quantize(copy.deepcopy(model), 5, per_channel=per_channel, exponent=per_channel)
    assert groups(cx.trace(quantized, x)) == groups(cx.trace(model, x))
