"""One run on several GPUs: its worker is the first of several processes, each with a GPU and a part of every batch.

The others are ``python -m compression.jobs.ranks RUN_DIR RANK COUNT FILE``; they end with the worker. ``FILE`` is where
they meet (a file store of torch.distributed, so that no port is opened for it).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from compression import devices, home, methods
from compression.errors import RunFailed
from compression.runs.folder import RunFolder

if TYPE_CHECKING:
    import torch

COMMAND = (sys.executable, "-m", home.module("compression.jobs.ranks"))
POLL_SECONDS = 0.05
GRACE_SECONDS = 3.0  # in which a process that failed ends
HOURS = 4  # that a process waits for the others: the first one measures meanwhile
WATCH_SECONDS, WAIT_SECONDS = 0.5, 20.0  # between looks at the others, and for torch to notice that one is gone
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


@contextlib.contextmanager
def together(folder: RunFolder, count: int, command: Sequence[str] = COMMAND) -> Iterator[None]:
    """Within the block this process trains together with ``count - 1`` others, which are ended after it."""
    if count == 1:
        yield
        return
    devices.check_count(folder.spec().get("device", devices.AUTO), count)
    processes: list[subprocess.Popen[bytes]] = []
    over = threading.Event()
    with tempfile.TemporaryDirectory() as meeting:
        place = str(Path(meeting) / "store")
        try:
            for rank in range(1, count):
                arguments = [str(folder.path.resolve()), str(rank), str(count), place]
                processes.append(subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL))
            while not all(_ready(place, rank).exists() for rank in range(1, count)):
                _check_all(processes, folder)
                time.sleep(POLL_SECONDS)
            threading.Thread(target=_watch, args=(processes, folder, over), daemon=True).start()
            _join(folder, 0, count, place)
            yield
        except (RuntimeError, ValueError):  # of torch.distributed, where another process is gone
            _check_all(processes, folder, GRACE_SECONDS)
            raise
        finally:
            over.set()
            for process in processes:  # before the group is left, which may wait for them
                process.terminate()
            for process in processes:
                process.wait()
        _leave()


def _ready(place: str, rank: int) -> Path:
    """The file by which a process says that it joins now: before that nobody waits where a wait cannot be ended."""
    return Path(f"{place}.{rank}")


def _check_all(processes: Sequence[subprocess.Popen[bytes]], folder: RunFolder, seconds: float = 0.0) -> None:
    """Refuse to go on without one of the processes; ``seconds``: how long one that failed may take to end.

    Raises:
        RunFailed: naming the process.
    """
    for rank, process in enumerate(processes, start=1):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        if process.returncode:
            reason = f"process {rank} of the {len(processes) + 1} that train together ended early"
            raise RunFailed(f"{reason}: see {folder.log_path}")


def _watch(processes: Sequence[subprocess.Popen[bytes]], folder: RunFolder, over: threading.Event) -> None:
    """End this process where another one failed and it waits for that for ever, as it does with NCCL."""
    while not over.wait(WATCH_SECONDS):
        try:
            _check_all(processes, folder)
        except RunFailed as problem:
            if not over.wait(WAIT_SECONDS):
                folder.log(str(problem))
                os._exit(1)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _leave() -> None:
    from torch import distributed

    distributed.destroy_process_group()


def _join(folder: RunFolder, rank: int, count: int, place: str) -> None:
    import torch
    from torch import distributed

    device = rank_device(folder, rank)
    interface = LOOPBACK.get(sys.platform)
    if interface is not None:  # all processes are on this machine, and nobody else is to reach them
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=Path(place).as_uri(),
        rank=rank,
        world_size=count,
        timeout=timedelta(hours=HOURS),
    )


def rank_device(folder: RunFolder, rank: int) -> torch.device:
    """The device of a process: of GPUs the one with its number."""
    import torch

    first = devices.choose(folder.spec().get("device", devices.AUTO))
    return torch.device(first.type, rank) if first.type == "cuda" else first


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as one of the other processes of a run: nothing is measured, reported or stored here."""
    path, rank, count, place = sys.argv[1:] if arguments is None else arguments
    folder = RunFolder(path)
    _end_with_parent()
    import torch

    from compression.graph import trace
    from compression.methods.base import Reporter, Setup
    from compression.runs.prepare import load
    from compression.training import parallel
    from compression.training.wire import wire_of
    from compression.zoo import example

    torch.set_num_threads(int(folder.spec().get("threads") or torch.get_num_threads()))
    budget = folder.budget()
    subject = load(budget, folder.spec().get("subject"))
    graph = trace(subject.model, example(budget.model, input=subject.input))
    _ready(place, int(rank)).touch()
    _join(folder, int(rank), int(count), place)
    report = Reporter()
    report.saved = parallel.shared(None)
    torch.manual_seed(budget.seed)
    model = subject.on(rank_device(folder, int(rank))).model
    with devices.fitting(devices.device_of(model), budget.batch_size):
        wire = wire_of(folder.spec().get("gradient_bits"), budget.seed)
        methods.get(budget.method).run(Setup(model, graph, subject.task, budget, wire), report)
    _leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
