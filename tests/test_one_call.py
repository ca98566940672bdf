"""Any method in one call: the result is small, plain, and what the packed file holds; the model stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import compression as cx
from compression import methods
from compression.errors import CompressionError
from compression.pack import unpack
from compression.quant import weight_quantizers
from compression.training.setup import Reporter
from tests.contract.runs import DATA, network


@pytest.mark.parametrize("method", methods.names())
def test_every_method_in_one_call(method: str, tmp_path: Path) -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = cx.compress(model, DATA, method=method, epochs=0.6, batch_size=32, precision="fp32", sparsity=0.4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not weight_quantizers(done.model)
    x = torch.randn(8, 1, 12, 12)
    with torch.no_grad():
        assert torch.allclose(done.model(x), done.masked(x), atol=1e-5)
    ledger = done.save(tmp_path / "weights.packed")
    assert ledger.total == (tmp_path / "weights.packed").stat().st_size < 4 * sum(p.numel() for p in model.parameters())
    stored = unpack(tmp_path / "weights.packed")
    assert all(torch.equal(stored[name], tensor) for name, tensor in done.model.state_dict().items())
    units = sum(map(len, done.removed.values()))
    if methods.get(method).removes_units and methods.get(method).ask("--sparsity") is None:
        assert cx.trace(done.model, x[:1]).macs <= 0.6 * cx.trace(model, x[:1]).macs
    else:
        assert units == (int(0.4 * cx.trace(model, x[:1]).prunable_units) if methods.get(method).removes_units else 0)


@pytest.mark.parametrize("method", methods.names())
def test_a_layer_of_zeros_is_compressed_as_any_other(method: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    nn.init.zeros_(model[2].weight)
    done = cx.compress(model, DATA, method=method, epochs=0.6, batch_size=32, precision="fp32", sparsity=0.2)
    x = torch.randn(4, 1, 12, 12)
    with torch.no_grad():
        answer = done.model(x)
        assert bool(answer.isfinite().all())
        assert torch.allclose(answer, done.masked(x), atol=1e-5)
    if not methods.get(method).info.trains:
        layers = dict(done.masked.named_modules())
        assert not layers["2"].weight.any(), "zeros need no rounding"


def test_a_listener_hears_of_it() -> None:
    class Listener(Reporter):
        def __init__(self) -> None:
            self.phases: list[str] = []

        def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
            self.phases.append(name)

    listener = Listener()
    cx.compress(network(), DATA, method="ptq", bits=4, report=listener)
    stages = [stage.name for stage in methods.get("ptq").info.stages]
    assert listener.phases == [name for name in stages if name in listener.phases] != []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "best"}, "unknown method 'best'"),
        ({"method": "ptq", "options": {"clip": "no"}}, "clip must be one of"),
        ({"method": "ptq", "bits": 40}, "bits must lie in"),
        ({"method": "ptq", "ranks": 4}, "unknown field 'ranks'"),
        ({"method": "geta", "epochs": 0.01}, "train longer"),
        ({"method": "ptq", "layers": {"fc9": {"weight_bits": (4, 4)}}}, "layers: the model has no 'fc9'; layers: conv"),
        ({"method": "geta", "groups": {"fc9": {"sparsity": (0, 0.5)}}}, "groups: the model has no 'fc9'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(fields: dict[str, Any], message: str) -> None:
    model = network()
    with pytest.raises(CompressionError, match=message):
        cx.compress(model, DATA, **fields)
    assert not weight_quantizers(model)


def test_asks_may_be_given_together() -> None:
    done = cx.compress(network(), DATA, method="ptq", asks={"bits": 5})
    assert done.budget.asks["bits"] == 5
