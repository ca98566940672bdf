"""The process in which inputs are used: its address space limited, and the memory of each input measured."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.target import example, outcome
from tests.fuzz.targets import targets

READY = "ready"
MEMORY = Path("/dev/shm")
ADDRESS_SPACE = 4 << 30  # beyond what the libraries have mapped: a claim of more is a MemoryError


def _memory(key: str) -> int:
    """Bytes of resident memory now (``VmRSS``) or at most since the mark was reset (``VmHWM``)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key} in /proc/self/status")


def work(connection: Connection, name: str, first: int, last: int) -> None:
    """In a process of its own: use the inputs ``first`` to ``last``, telling what came of each."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (to the process's end)
    target = targets()[name]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        outcome(target, example(target, 0), Path(folder))  # what is imported on first use is no input's doing
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE, mapped + ADDRESS_SPACE))
        connection.send(READY)
        for number in range(first, last):
            data = example(target, number)
            Path("/proc/self/clear_refs").write_text("5")
            before = _memory("VmRSS")
            result = outcome(target, data, Path(folder))
            connection.send((number, result, max(0, _memory("VmHWM") - before)))
    connection.send(None)
