"""Units that a recurrent layer reads are cut out of its modules, whatever dimension the batch lies along."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

import compression as cx


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.a, self.m, self.c = nn.Linear(6, 16), layer, nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.m(torch.relu(self.a(x)))
        return self.c(result[0] if isinstance(result, tuple) else result)


CASES: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "lstm, steps first": (lambda: nn.LSTM(16, 12), 12, (5, 2, 6)),
    "gru of two": (lambda: nn.GRU(16, 12, 2, batch_first=True), 12, (2, 5, 6)),
    "both ways": (lambda: nn.RNN(16, 12, bidirectional=True, batch_first=True), 24, (2, 5, 6)),
    "projected": (lambda: nn.LSTM(16, 12, proj_size=5, batch_first=True), 5, (2, 5, 6)),
    "cell": (lambda: nn.GRUCell(16, 12), 12, (2, 6)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_recurrent_layer_reads_is_cut(case: str) -> None:
    torch.manual_seed(0)
    make, width, shape = CASES[case]
    model, x = Recurrent(make(), width).eval(), torch.randn(*shape)
    graph = cx.trace(model, x)
    assert graph.group("a").prunable and graph.group("a").exact
    cx.zero_units(model, graph, {"a": [0, 3, 4, 11]})
    small, report = cx.slim_report(model, graph)
    assert not report.rebuilt and small.m.input_size == 12
    longer = torch.randn(*(n + 2 for n in shape[:-1]), 6).double()
    masked = copy.deepcopy(model).double()(longer)
    torch.testing.assert_close(small.double()(longer), masked, rtol=0, atol=1e-10)
