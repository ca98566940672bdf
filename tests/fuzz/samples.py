"""Sound JSON values of each format, every field present, from which malformed ones are made."""

from __future__ import annotations

from typing import Any

from compression.budget import Budget
from compression.tasks import ACCURACY

BUDGET: list[dict[str, Any]] = [
    Budget(
        input=(1, 28, 28), classes=10, weights="w.safetensors", activation_bits=(4, 8), lr=0.1, lr_quant=0.01,
        groups={"conv1": {"sparsity": [0.0, 0.5]}},
        layers={"conv1": {"weight_bits": [4, 8], "activation_bits": [8, 8], "sparsity": 0.5}},
        options={"preset": "paper", "criteria": {"magnitude": 1.0}, "temperature": 2.0, "recalibrate": 3},
    ).to_dict(),
    Budget(method="opq", bits=3.5, options={"omega": {"conv1": 2.0}, "skip": ["fc"], "grid": "plain"}).to_dict(),
    {"budget": Budget(method="ptq").to_dict()},
    {"method": "sequential", "schedule": {"warmup": 0.1, "pruning_periods": 2}},
]  # fmt: skip

POINT: dict[str, Any] = {
    "step": 4, "epoch": 1.0, "phase": "final", "split": "test", "score": 0.9, "accuracy": 0.9,
    "metric": "accuracy", "loss": 0.3, "bytes": 1000,
    "bytes_kind": "packed", "nominal_bytes": 900.0, "macs": 5, "bops": 6.0, "rel_bops": 0.1, "unit_sparsity": 0.5,
    "weight_sparsity": 0.6, "bits": {"conv1": {"weight": 4.0, "activation": None}},
}  # fmt: skip

SPEC: dict[str, Any] = {
    "version": 1, "id": "run", "created": 1.7e9, "budget": BUDGET[0], "versions": {"python": "3.11"}, "threads": 1,
    "priority": 0, "sweep": "sweep-1",
}  # fmt: skip
SWEEP: dict[str, Any] = {
    "version": 1, "id": "sweep-1", "created": 1.7e9, "budget": BUDGET[1], "threads": 1, "children": ["run", "run-2"],
    "values": {"sparsity": [0.5], "bits": []},
    "find": {"min_accuracy": 0.9, "planned": [{"id": "run", "created": 1.7e9, "budget": BUDGET[1]}]},
    "job": "curve", "key": "k", "asked": {"images": 3},
}  # fmt: skip

_JOINT = dict.fromkeys(("rate", "uniform", "alpha", "hh", "ch", "cosine", "descent", "allowed"), 0.5)


def _event(number: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "t": 1.7e9 + number, "attempt": 1, "kind": kind, "step": number, "epoch": number / 4, **fields}


EVENTS: list[dict[str, Any]] = [
    _event(0, "state", state="running", pid=7, host="h"),
    _event(0, "plan", total_steps=5, unit="steps", stages={"warm-up": 1}, units=8, removes=4),
    _event(0, "point", **{**POINT, "step": 0, "phase": "baseline"}),
    _event(0, "phase", phase="warm-up"),
    _event(1, "step", loss=0.5, score=0.5, lr=0.1),
    _event(2, "step", loss=None, score=0.5, lr=0.1),
    _event(2, "group", units={"conv1": 3}),
    _event(3, "group", chosen={"conv1": [[1, 0.5]]}, spared={"conv1": [2]}, next_score=0.7),
    _event(3, "group", joint={"conv1": {"units": 3, **_JOINT, "layers": {"conv1": [0.1, 0.1, 0.2, 0.3, None]}}}),
    _event(3, "log", message="a line"),
    _event(4, "point", **POINT),
    _event(4, "state", state="failed", error="why"),
    _event(4, "later", phase="p", split="s"),
]

_LEDGER = {"values": 1, "positions": 2, "scales": 3, "leftovers": 4, "container": 5, "total": 15}
RESULT: dict[str, Any] = {
    "run": "run", "status": "done", "seconds": 1.5, "baseline": POINT, "final": POINT, "points": [POINT],
    "ledger": _LEDGER, "baseline_ledger": _LEDGER, "equality": 0.0, "classes": ["a", "b"],
    "confusion": {"baseline": [[1, 2], [0, 3]], "final": [[2, 1], [1, 2]]}, "removed": {"conv1": 3},
    "units": {"conv1": [1, 2]}, "rebuilt": False, "error": None, "method": "opq", "model": "resnet8", "data": "mnist5k",
    "weights": "w.safetensors", "facts": {"units": 8}, "metric": ACCURACY.to_dict(),
    "beside": {"bits_per_pixel": 1.5, "JPEG": {"quality": 5, "bytes": 9, "psnr": 30.5}, "WEBP": None},
    "budget": BUDGET[1],
}  # fmt: skip
STUDIES: list[dict[str, Any]] = [
    {**RESULT, "runs": [RESULT], "found": "run", "min_accuracy": 0.9},
    {"job": "curve", "dense": 0.9, "images": 10, "rows": [
        {"sparsity": 0.5, "bits": 4, "error": 0.1, "score": 0.5, "loss": 1.0, "recomputed": None}]},
    {"job": "sensitivity", "structured": True, "dense": 0.9, "images": 10, "rows": [
        {"kind": "bits", "name": "conv1", "value": 4, "size": 9, "score": 0.5, "loss": 1.0, "gone": None}]},
    {"job": "saliency", "criteria": ["magnitude"], "images": 10, "units": 4, "rows": [
        {"group": "g", "units": 4, "share": {"magnitude": 0.5}, "rank": {"magnitude": None}, "scores": {"m": [0.1]}}]},
]  # fmt: skip

HANDLE: dict[str, Any] = {
    "version": 1, "host": "@here@", "pid": 2_000_000_000, "start": 1.7e9, "launcher": "local", "job": None,
}  # fmt: skip
SIDE_JOB: dict[str, Any] = {
    "version": 1, "handle": {key: value for key, value in HANDLE.items() if key != "version"},
    "job": {"state": "running", "share": 0.5, "text": "packing", "error": "", "told": {"bytes": 3}},
}  # fmt: skip

_LAYER = {
    "name": "a", "numel": 100, "pruned": 50, "threshold": 0.1, "bits": 4, "step": 0.1, "error": 0.5,
    "pruning_error": 0.1, "offset": None, "scales": [1.0, 2.0], "axis": 0,
}  # fmt: skip
ALLOCATION: dict[str, Any] = {
    "model": "m", "weights": None, "sparsity": 0.5, "bits": 4.0, "layers": [_LAYER, {**_LAYER, "name": "b"}],
    "pruned": 100, "numel": 200, "value_bits": 400, "budget_bits": 400, "exact": True, "gap": 0.0, "zeros": "exact",
    "grid": "plain", "codebook": "channel", "notes": ["a note"], "error": 1.0,
}  # fmt: skip

EXPLANATION: dict[str, Any] = {
    "version": 1, "run": "run", "seed": 0, "images": [1, 5], "changed": 1, "layer": "conv1", "straight_through": False,
    "scores": {"saliency": {"spearman": {"compressed": [0.5, None]}}}, "refused": {"cam": "why"}, "missing": [0.1, 0.2],
}  # fmt: skip
ABOUT: dict[str, Any] = {"title": "A title", "shown": ["run"], "lines": {"run": "a line"}}
