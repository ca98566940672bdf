"""Runs as a worker leaves them, written by the library's own writers without any training."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from compression import zoo
from compression.budget import Budget
from compression.methods.opq import allocate, attach
from compression.pack import pack
from compression.points import Point
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.submit import new_spec

STEPS = 224
BEFORE, AFTER = [[10, 0], [0, 10]], [[7, 3], [0, 10]]  # confusions of the dense and the compressed model


def point(accuracy: float, size: float, phase: str, split: str = "test", step: int = STEPS) -> Point:
    """A point of a run; one on the way is measured on validation data, its size estimated."""
    bits: dict[str, dict[str, float | None]] = {"conv1": {"weight": 5.0, "activation": None}}
    kind = "packed" if split == "test" else "estimated"
    return Point(
        step, step / 56, phase, split, accuracy, 0.1, size, kind, size, 1e6, 1e7, 0.05, 0.5, 0.6,
        {} if phase == "baseline" else bits,
    )  # fmt: skip


DENSE = point(0.98, 80_000, "baseline", step=0)
ON_THE_WAY = point(0.9, 9_000, "joint", "validation", step=112)


def begun(root: Path, budget: Budget, *points: Point, state: str = "", **facts: Any) -> RunFolder:
    """A run folder with these points, in this state."""
    folder = RunFolder.create(root, new_spec(budget, Store(root)))
    with EventWriter(folder.events_path) as events:
        events.state("running", pid=1, host="elsewhere")
        for each in points:
            events.point(each)
        if state:
            events.state(state, **facts)
    return folder


def finished(root: Path, accuracy: float = 0.97, size: int = 5_000, budget: Budget | None = None) -> str:
    """A finished run with steps, stages, a result and a packed file; returns its id."""
    last = point(accuracy, size, "final")
    folder = begun(root, budget or Budget(), DENSE)
    content, ledger = _packed()
    folder.bundle.mkdir(parents=True, exist_ok=True)
    (folder.bundle / "weights.packed").write_bytes(content)
    result = {
        "run": folder.id, "status": "done", "baseline": DENSE.to_dict(), "final": last.to_dict(), "points": [],
        "ledger": json.loads(ledger), "equality": 1e-6, "seconds": 9, "classes": ["cat", "dog"],
        "confusion": {"baseline": BEFORE, "final": AFTER},
    }  # fmt: skip
    with EventWriter(folder.events_path) as events:
        events.plan(STEPS)
        events.phase("joint", 1)
        events.step(1, 0.0, loss=0.5, score=0.9)
        events.point(ON_THE_WAY)
        events.point(last)
        folder.result_path.write_text(json.dumps(result))
        events.state("done")
    return folder.id


@lru_cache(maxsize=1)
def _packed() -> tuple[bytes, str]:
    """A packed file of resnet8 as OPQ leaves it, and its ledger as JSON."""
    torch.manual_seed(0)
    model = zoo.build("resnet8", (1, 28, 28), 10)
    attach(model, allocate(model, sparsity=0.7, bits=3))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.packed"
        ledger = pack(model, file).to_dict()
        return file.read_bytes(), json.dumps(ledger)
