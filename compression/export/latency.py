"""Latency of one image in ONNX Runtime, measured on this machine for every variant."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compression.export.onnx_check import session

RUNS, WARM_UP, ROUNDS = 60, 10, 6
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}  # fmt: skip
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image: ``median`` of ``runs``, and the quartiles around it."""

    name: str
    median: float
    low: float
    high: float
    runs: int
    bytes: int
    bops: float | None


@dataclass(frozen=True)
class Processor:
    """The processor of the measured times: its ``name``, relevant ``flags``, and the ``threads`` used."""

    name: str
    flags: tuple[str, ...]
    threads: int


def measure(variants: Mapping[str, bytes], bops: Mapping[str, float | None], threads: int = 1) -> tuple[Latency, ...]:
    """Time every variant (name → ONNX file), batch 1, in alternating rounds, so that other load affects all of them.

    ``bops`` (name → bit operations) is copied into the results.
    """
    runners = {name: session(data, threads) for name, data in variants.items()}
    image = _example(next(iter(runners.values())))
    times: dict[str, list[float]] = {name: [] for name in variants}
    for runner in runners.values():
        _time(runner, image, WARM_UP)
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            times[name] += _time(runner, image, RUNS // ROUNDS)
    return tuple(_latency(name, times[name], len(variants[name]), bops.get(name)) for name in variants)


def _example(runner: Any) -> dict[str, Any]:
    """One image of noise for each input of floats, ones for every other (the same token, where a file takes ids)."""
    noise = np.random.default_rng(0)
    example: dict[str, Any] = {}
    for given in runner.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        kind = TYPES[given.type]
        example[given.name] = (noise.standard_normal(shape) if kind is np.float32 else np.ones(shape)).astype(kind)
    return example


def _time(runner: Any, image: dict[str, Any], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        runner.run(None, image)
        times.append((time.perf_counter() - begin) * 1000)
    return times


def _latency(name: str, times: list[float], size: int, bops: float | None) -> Latency:
    low, median, high = (float(value) for value in np.percentile(times, (25, 50, 75)))
    return Latency(name, median, low, high, len(times), size, bops)


def processor(threads: int = 1) -> Processor:
    """The processor of this machine."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    facts = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines if ":" in line}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    name = facts.get("model name") or platform.processor() or platform.machine()
    return Processor(name, tuple(flag for flag in FLAGS if flag in flags), threads)
