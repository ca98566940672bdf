"""Studies that an earlier version queued: its spec files, and the command by which launchers start their worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BUDGET = {
    "version": 1, "method": "ptq", "model": "resnet8", "input": None, "classes": None, "weights": None,
    "data": "mnist5k", "sparsity": 0.5, "weight_bits": [4.0, 16.0], "activation_bits": None,
}  # fmt: skip
REQUESTS: dict[str, dict[str, Any]] = {
    "curve": {"layers": {}, "options": {}, "grid": [[0.5, 4.0]], "images": 50, "statistics": 0},
    "sensitivity": {"structured": True, "images": 20, "bits": [2, 3, 4, 6, 8], "shares": [0.3, 0.5, 0.7, 0.9]},
    "saliency": {"images": 4, "steps": 8},
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_study_queued_by_version_0_1_0_is_carried_out(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "studies" / f"{kind}-ptq-resnet8"
    folder.mkdir(parents=True)
    spec = {"version": 1, "id": folder.name, "created": 1.7e9, "budget": BUDGET, "threads": 1}
    (folder / "spec.json").write_text(json.dumps({**spec, "job": kind, "key": "0" * 64, "asked": REQUESTS[kind]}))
    worker = [sys.executable, "-m", "compression.runs.worker", str(folder)]
    done = subprocess.run(worker, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, (folder / "log.txt").read_text()
    result = json.loads((folder / "result.json").read_text())
    assert (result["job"], result["status"], result["images"]) == (kind, "done", REQUESTS[kind]["images"])
    if kind == "curve":
        assert [(row["sparsity"], row["bits"]) for row in result["rows"]] == [(0.5, 4.0)]
    if kind == "sensitivity":
        tried = {(row["kind"], row["value"]) for row in result["rows"]}
        assert tried == {("bits", bits) for bits in (2, 3, 4, 6, 8)} | {
            ("units", part) for part in (0.3, 0.5, 0.7, 0.9)
        }
    if kind == "saliency":
        assert sum(row["units"] for row in result["rows"]) == result["units"] > 0
