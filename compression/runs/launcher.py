"""Starting workers. Callers never see which machine or system a run is carried out by."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from compression import home
from compression.reading import MissingFile, open_regular
from compression.runs import signals
from compression.runs.folder import RunFolder
from compression.runs.paths import append_to, touch
from compression.runs.process import Handle

# Seconds of one epoch of OPQ on resnet8, 2 threads on 2 cores: alone / beside a process that keeps one core busy.
# 0 spins: 3.2 / 4.9; 1,000: 2.5 / 5.7; 10,000: 2.3 / 11.4; OpenMP's default of 300,000 took 49 s where 0 took 7 s.
SPINS = "1000"
TAIL_BYTES = 256 * 1024
WORKER = (sys.executable, "-m", home.module("compression.runs.worker"))


class Launcher(Protocol):
    """Four verbs over the worker of a run folder."""

    def start(self, folder: RunFolder, threads: int) -> Handle:
        """Start the worker on this many threads and leave its handle in the folder."""

    def status(self, folder: RunFolder) -> str:
        """The state of the run."""

    def stop(self, folder: RunFolder, *, insist: bool = False) -> None:
        """Ask the worker to end now (it cleans up); with ``insist`` end it without asking."""

    def logs(self, folder: RunFolder, lines: int = 50) -> str:
        """The last lines of the worker's output."""


class LocalLauncher:
    """Workers as processes of this machine, in a separate session: they outlive the browser and the app."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        self._command = tuple(command)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, folder: RunFolder, threads: int) -> Handle:
        """Start ``python -m compression.runs.worker RUN_DIR``, its output going to ``log.txt``."""
        self._started = [process for process in self._started if process.poll() is None]
        with append_to(folder.log_path) as log:
            process = subprocess.Popen(
                [*self._command, str(folder.path.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(threads),
                start_new_session=True,
            )
        self._started.append(process)
        handle = Handle.from_pid(process.pid)
        touch(folder.heartbeat_path)
        handle.save(folder.process_path)
        return handle

    def status(self, folder: RunFolder) -> str:
        """The state, from events and process."""
        return folder.state

    def stop(self, folder: RunFolder, *, insist: bool = False) -> None:
        """SIGTERM to the worker, or SIGKILL to its process group; nothing when it has ended.

        Raises:
            CompressionError: the process named in the folder is no worker of it.
        """
        end = signals.signal_group if insist else signals.terminate
        end(folder.handle(), folder.path)

    def logs(self, folder: RunFolder, lines: int = 50) -> str:
        """The tail of ``log.txt``."""
        return tail(folder.log_path, lines)


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, at most 256 KB of it; nothing where there is none.

    Raises:
        CompressionError: it is no plain file.
    """
    try:
        with open_regular(path, "log") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL_BYTES))
            text = stream.read(TAIL_BYTES).decode("utf-8", errors="replace")
    except MissingFile:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def cores() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_run(slots: int) -> int:
    """Threads for each of ``slots`` runs side by side, so that they never fight over the cores."""
    fair = max(1, cores() // max(1, slots))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(fair, int(limit)) if limit.isdigit() and int(limit) > 0 else fair


def environment(threads: int) -> dict[str, str]:
    """The caller's environment with the :func:`settings` of a worker."""
    return {**os.environ, **settings(threads)}


def settings(threads: int) -> dict[str, str]:
    """Thread count, how long waiting OpenMP threads spin before they sleep (``SPINS``), and where a checkout is."""
    places = (None if home.INSTALLED else str(home.ROOT), os.environ.get("PYTHONPATH"))
    path = os.pathsep.join(place for place in places if place)
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    spins = os.environ.get("GOMP_SPINCOUNT", SPINS)
    paths = {"PYTHONPATH": path} if path else {}
    return {"GOMP_SPINCOUNT": spins, **counts, **paths, "PYTHONUNBUFFERED": "1"}
