"""The runs of a sweep on several GPUs of one machine: one worker for each, each seeing one GPU."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Generator, Sequence

from compression.errors import Paused
from compression.runs.folder import PAUSED, RunFolder
from compression.runs.launcher import WORKER
from compression.runs.reporter import RunReporter

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.1


def visible(number: int) -> str:
    """What CUDA_VISIBLE_DEVICES is for the worker on a GPU, counted among those that this process may use."""
    named = [each for each in os.environ.get(VISIBLE, "").split(",") if each]
    return named[number] if number < len(named) else str(number)


def carried_out(
    children: Sequence[RunFolder], gpus: int, events: RunReporter, command: Sequence[str] = WORKER
) -> Generator[RunFolder]:
    """Carry the runs out, ``gpus`` at a time and in their order; gives each as it ends.

    Raises:
        Cancelled: the sweep was asked to stop; the workers are ended. Paused: it was asked to pause; so were they.
    """
    waiting, going = list(children), dict[int, tuple[RunFolder, subprocess.Popen[bytes]]]()
    try:
        while waiting or going:
            events.check()
            for gpu in [gpu for gpu in range(gpus) if gpu not in going][: len(waiting)]:
                child = waiting.pop(0)
                environment = {**os.environ, VISIBLE: visible(gpu)}
                worker = subprocess.Popen([*command, str(child.path.resolve())], env=environment)
                going[gpu] = (child, worker)
            time.sleep(POLL_SECONDS)
            for gpu, (child, worker) in list(going.items()):
                if worker.poll() is not None:
                    del going[gpu]
                    if child.state == PAUSED:  # so are the others, each when it has written its checkpoint
                        for _, other in going.values():
                            other.wait()
                    yield child
    except Paused:  # the workers see it, too, and write their checkpoints
        for _, worker in going.values():
            worker.wait()
        raise
    finally:
        for _, worker in going.values():
            worker.terminate()
        for _, worker in going.values():
            worker.wait()
