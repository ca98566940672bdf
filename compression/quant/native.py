"""The quantizer's loops in C, built with the machine's compiler in less than a second and called through ctypes.

Eager torch needs about five passes over memory for what is one loop here. A graph compiler would fuse them, but its
guards cost more than the quantizer of a small layer, and its first run takes about 15 seconds. Without a C compiler the
eager passes return the same values bit for bit, more slowly.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from compression.errors import CompressionError

Result = TypeVar("Result")

SOURCE = Path(__file__).with_name("native.c")
FLAGS = "-O3 -march=native -fopenmp-simd -fno-math-errno -fno-trapping-math -ffp-contract=off -fPIC -shared".split()
SHARED_FROM = 1 << 18
"""Elements from which the loop is divided among threads."""


class Native:
    """The compiled loops, for dense fp32 tensors of one memory order.

    Raises:
        CompressionError: there is no compiler, or it fails.
    """

    def __init__(self) -> None:
        library = _build()
        pointer, number, size = ctypes.c_void_p, ctypes.c_float, ctypes.c_long
        self._quantize, self._gradients = library.quantize, library.gradients
        self._quantize.argtypes, self._quantize.restype = [pointer, pointer, size, number, number, number], None
        self._gradients.argtypes = [pointer, pointer, pointer, size, number, number, number, pointer]
        self._gradients.restype = None
        self._quantize_rows, self._gradients_rows = library.quantize_rows, library.gradients_rows
        self._quantize_rows.argtypes = [pointer, pointer, size, size, pointer, pointer]
        self._gradients_rows.argtypes = [pointer, pointer, pointer, size, size, pointer, pointer, pointer]
        self._quantize_rows.restype = self._gradients_rows.restype = None
        self._pool: ThreadPoolExecutor | None = None

    def values(self, x: torch.Tensor, step: float, low: float, clip: float) -> torch.Tensor:
        """Return ``d * round(clamp(x, low, q_m) / d)``; ``low`` is -q_m or 0."""
        result = torch.empty_like(x)
        source, target = x.data_ptr(), result.data_ptr()

        def part(begin: int, end: int) -> None:
            self._quantize(source + 4 * begin, target + 4 * begin, end - begin, step, low, clip)

        self._each_part(part, x.numel(), x.numel())
        return result

    def gradients(
        self, upstream: torch.Tensor, x: torch.Tensor, step: float, low: float, clip: float
    ) -> tuple[torch.Tensor, float, float]:
        """Return the gradients of x (a tensor), d and q_m (numbers)."""
        result = torch.empty_like(x)
        g, source, target = upstream.data_ptr(), x.data_ptr(), result.data_ptr()

        def part(begin: int, end: int) -> tuple[float, float]:
            sums, skip = (ctypes.c_double * 2)(), 4 * begin
            self._gradients(g + skip, source + skip, target + skip, end - begin, step, low, clip, sums)
            return sums[0], sums[1]

        step_sums, clip_sums = zip(*self._each_part(part, x.numel(), x.numel()), strict=True)
        return result, sum(step_sums), sum(clip_sums)

    def row_values(self, x: torch.Tensor, steps: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
        """:meth:`values` with a step and a bound for each row of ``x``, which follow one another in memory."""
        result, rows, size = torch.empty_like(x), len(steps), x.numel() // len(steps)
        source, target, d, q = (t.data_ptr() for t in (x, result, steps, clips))

        def part(begin: int, end: int) -> None:
            skip, at = 4 * begin * size, 4 * begin
            self._quantize_rows(source + skip, target + skip, end - begin, size, d + at, q + at)

        self._each_part(part, rows, x.numel())
        return result

    def row_gradients(
        self, upstream: torch.Tensor, x: torch.Tensor, steps: torch.Tensor, clips: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of x, and those of d and q_m of each row: fp64 [rows, 2]."""
        result, rows, size = torch.empty_like(x), len(steps), x.numel() // len(steps)
        sums = torch.empty(rows, 2, dtype=torch.float64)
        g, source, target, d, q, totals = (t.data_ptr() for t in (upstream, x, result, steps, clips, sums))

        def part(begin: int, end: int) -> None:
            skip, at = 4 * begin * size, 4 * begin
            self._gradients_rows(
                g + skip, source + skip, target + skip, end - begin, size, d + at, q + at, totals + 16 * begin
            )

        self._each_part(part, rows, x.numel())
        return result, sums

    def _each_part(self, part: Callable[[int, int], Result], count: int, work: int) -> list[Result]:
        """Call ``part`` on 0..count at once, or on one range a thread (ctypes releases the lock of the interpreter)."""
        if work < SHARED_FROM or (threads := torch.get_num_threads()) == 1:
            return [part(0, count)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads, "quantizer")
        edges = [count * i // threads for i in range(threads + 1)]
        return list(self._pool.map(part, edges, edges[1:]))


def _build() -> ctypes.CDLL:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CompressionError("no C compiler on this machine")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "native.so"
        command = [*compiler.split(), *FLAGS, "-o", str(target), str(SOURCE), "-lm"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if result.returncode != 0:
                lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
                raise CompressionError(f"{compiler} could not build {SOURCE.name}: {lines[0]}")
            return ctypes.CDLL(str(target))
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise CompressionError(f"{compiler} could not build {SOURCE.name}: {problem}") from problem
