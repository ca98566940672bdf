"""One small finished run of each method, for the tests of the contract."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from compression import methods
from compression.budget import Budget
from compression.graph import trace
from compression.methods import Setup
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.zoo import build
from tests.stripes import striped

DATA = striped("shift")
QUICK = {"samples": 64, "iterations": 5}
"""Of methods that have such options: tests of what all methods promise need no more."""


def network() -> torch.nn.Module:
    """Three convolutions with norms and a linear layer, seeded."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    return build("resnet8", input=(1, 12, 12), classes=4, seed=0).eval()


def quick(method: str) -> dict[str, Any]:
    """Those of the quick options that the method has."""
    return {name: value for name, value in QUICK.items() if name in methods.get(method).Config.model_fields}


def budget(method: str, **changes: Any) -> Budget:
    """A short budget in which every ask of the method has a value other than its default."""
    changes = {"options": quick(method), **changes}
    values = {"sparsity": 0.4, "weight_bits": (3, 6), "bits": 5, "activation_bits": (6, 8)}
    plain = Budget(method=method, epochs=0.2, batch_size=32, precision="fp32", seed=3, **values, **changes)
    return methods.get(method).complete(plain)


def setup(requested: Budget) -> Setup:
    """The network on striped images, as a method gets it."""
    model = network()
    return Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), DATA, requested)


@cache
def finished(root: Path, method: str) -> tuple[RunFolder, dict[str, Any]]:
    """A run of resnet8 on digits carried out in this process, and its result."""
    torch.set_num_threads(1)
    spec = {"id": f"{method}-contract", "budget": budget(method).to_dict(), "created": 0.0}
    folder = RunFolder.create(root, spec)
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return folder, json.loads(folder.result_path.read_text())
