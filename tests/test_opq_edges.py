"""Layers at the edge, on every grid: all zero, constant, one weight, equal, depthwise, transposed, dead, huge, tiny."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compression.errors import CompressionError
from compression.methods.opq import LayerTables, allocate, attach
from compression.pack import pack, unpack
from compression.quant.integers import fold, integer_weights

GRIDS: dict[str, dict[str, Any]] = {
    "plain": {}, "rounded": {"zeros": "rounded"}, "survivor": {"grid": "survivor"}, "channel": {"codebook": "channel"},
}  # fmt: skip


@torch.no_grad()
def layer(kind: str) -> nn.Module:
    torch.manual_seed(0)
    models: nn.Module = {
        "zero": nn.Conv2d(2, 3, 3), "constant": nn.Conv2d(2, 3, 3), "one": nn.Linear(1, 1), "equal": nn.Linear(8, 8),
        "depthwise": nn.Conv2d(8, 8, 3, groups=8), "transposed": nn.ConvTranspose2d(4, 6, 2), "dead": nn.Linear(6, 4),
        "huge": nn.Linear(6, 4), "tiny": nn.Linear(6, 4), "half zero": nn.Linear(6, 4), "column": nn.Linear(1, 9),
    }[kind]  # fmt: skip
    weight = models.weight
    assert isinstance(weight, torch.Tensor)
    if kind in ("zero", "constant"):
        weight.fill_(0.0 if kind == "zero" else -0.3)
    elif kind == "equal":
        weight.copy_(torch.where(torch.rand(8, 8) > 0.5, 0.25, -0.25))
    elif kind == "dead":
        weight[1] = 0
    elif kind == "half zero":
        weight[:, ::2] = 0
    elif kind in ("huge", "tiny"):
        weight.mul_(1e18 if kind == "huge" else 1e-30)
    return models


KINDS = (
    "zero", "constant", "one", "equal", "depthwise", "transposed", "dead", "huge", "tiny", "half zero", "column",
)  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_reported_is_what_the_layer_computes_with(kind: str, grid: str, tmp_path: Path) -> None:
    for sparsity, bits, tables in itertools.product((0.0, 0.5, 0.98), (2, 16), ("exact", "laplace")):
        dense = nn.Sequential(layer(kind))
        before = dense[0].weight.detach().double()
        allocation = allocate(dense, sparsity, bits, scope="layer", tables=tables, **GRIDS[grid])
        model, entry = attach(copy.deepcopy(dense), allocation), allocation.layers[0]
        after = model[0].weight.detach().double()
        zeros = int((before == 0).sum())
        energy, lost = float(before.square().sum()), float((before - after).square().sum())
        assert entry.bits == bits
        assert 0 < entry.step < math.inf
        assert bool(torch.isfinite(after).all())
        assert abs(lost - entry.error) <= 1e-4 * entry.error + 1e-9 * energy
        assert entry.pruned == max(zeros, min(round(sparsity * before.numel()), before.numel() - 1))
        assert grid == "rounded" or int((after == 0).sum()) == entry.pruned
        if bits == 16 and sparsity == 0:
            assert lost <= 1e-6 * energy
        pack(model, tmp_path / "p")
        state, expected = unpack(tmp_path / "p"), fold(model).state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", ["constant", "one", "equal", "dead", "depthwise", "transposed"])
def test_a_step_of_training_leaves_zeros_and_levels(kind: str, grid: str) -> None:
    model = attach(nn.Sequential(layer(kind)), allocate(nn.Sequential(layer(kind)), 0.5, 3, **GRIDS[grid]))
    fixed = {name: buffer.clone() for name, buffer in model.named_buffers()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=0.1)
    size = {"depthwise": (2, 8, 5, 5), "transposed": (2, 4, 3, 3), "constant": (2, 2, 5, 5)}.get(kind)
    columns = model[0].weight.shape[1]
    model(torch.randn(size or (2, columns))).square().sum().backward()
    optimizer.step()
    weight = integer_weights(model)["0"].weight()
    mask = model[0].parametrizations.weight[0].mask
    assert bool(torch.isfinite(weight).all())
    assert int(weight[~mask].count_nonzero()) == 0
    assert all(torch.equal(buffer, fixed[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_no_number_is_refused_by_name(bad: float, grid: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[1].weight[2, 3] = bad
    with pytest.raises(CompressionError, match="layer 1: the weights hold NaN or infinite"):
        allocate(model, 0.5, 4, **GRIDS[grid])
    with pytest.raises(CompressionError, match="layer 1"):
        LayerTables.prepare(model, channels=True)


def test_keeping_code_0_for_pruned_weights_costs_where_none_is_pruned() -> None:
    rows = {"l": torch.randn(64, 64, generator=torch.Generator().manual_seed(0))}
    exact, rounded, own = (allocate(rows, 0.0, 3, **GRIDS[grid]).error for grid in ("plain", "rounded", "survivor"))
    assert rounded < exact
    assert own < exact
