"""The worker: ``python -m compression.runs.worker RUN_DIR`` carries out a run, sweep or study, then starts what waits.

It reports that it runs before it imports anything heavy, so that the queue sees a live process from the first moment.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.jobs import calibration, curve, dense, inputs, saliency, sensitivity, timing
from compression.jobs.ranks import together
from compression.runs.bisect import carry_out_find
from compression.runs.folder import DONE, RunFolder
from compression.runs.launcher import Launcher
from compression.runs.lifecycle import Termination, Work, carry_out
from compression.runs.process import JOB
from compression.runs.reporter import RunReporter
from compression.runs.store import Store
from compression.runs.sweep import carry_out_sweep

STUDIES: dict[str, Callable[..., dict[str, Any]]] = {
    study.KIND: study.carry_out for study in (calibration, curve, dense, inputs, saliency, sensitivity, timing)
}
"""``job`` in a study's spec → what makes its table."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the run in the folder named on the command line; the exit status is 0 only when it is done."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: python -m compression.runs.worker RUN_DIR", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        return 0 if serve(RunFolder.open(path.parent, path.name), RealWork()) == DONE else 1
    except CompressionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def serve(folder: RunFolder, work: Work, launcher: Launcher | None = None) -> str:
    """Carry out a run (or the runs of a sweep) with ``work``, then let the queue continue; returns the last state.

    ``launcher`` starts what waits (default: the configured one; a worker on a cluster leaves that to the others).
    """
    with Termination() as termination:
        job = work
        if folder.is_sweep:
            kind = carry_out_find if "find" in folder.spec() else carry_out_sweep
            job = functools.partial(kind, work=work, stopped=lambda: termination.requested)
        state = carry_out(folder, job)
    if launcher is not None or JOB not in os.environ:  # the index must not be opened over a network
        Store(folder.path.parent, launcher=launcher).sync()
    return state


class RealWork:
    """A study's table or a run's result; imports torch on first use, and prepares a sweep's subject only once."""

    def __init__(self) -> None:
        self._bench: Any = None

    def __call__(self, folder: RunFolder, events: RunReporter) -> dict[str, Any]:
        import torch

        from compression.runs.execute import execute
        from compression.runs.prepare import Workbench

        spec = folder.spec()
        torch.set_num_threads(int(spec.get("threads") or torch.get_num_threads()))
        if spec.get("job") in STUDIES:
            return {"job": spec["job"], **STUDIES[spec["job"]](folder, events, **spec["asked"])}
        self._bench = self._bench or Workbench()
        with together(folder, spec.get("gpus", 1)):
            return execute(folder, events, bench=self._bench)
