"""The layered file of a run, made and measured in a process that a page can watch: ``python -m … RUN_DIR`` of this.

``bundle/layered-job.json`` in the run's folder holds the state; ``bundle/weights.layered`` is the result, beside it its
table and its loader.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from compression import home
from compression.jobs.sidejob import DONE, FAILED, NONE, RUNNING, Job, Report, SideJob
from compression.runs.folder import RunFolder

__all__ = ["DONE", "FAILED", "NONE", "RUNNING", "Job", "main", "start", "status"]

COMMAND = (sys.executable, "-m", home.module("compression.jobs.layered_run"))


def start(folder: RunFolder, threads: int = 1, command: Sequence[str] = COMMAND) -> None:
    """Begin, unless it is running already; the process outlives the page and the app.

    Raises:
        CompressionError: the run's folder cannot be written.
    """
    _job(folder).start([*command, str(folder.path.resolve())], threads)


def status(folder: RunFolder) -> Job:
    """The state of this run's job; the table is read with :func:`compression.export.layered_table.stored`.

    Raises:
        CompressionError: its file is damaged.
    """
    return _job(folder).status()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the layered file of the run in the folder named on the command line; exit status 0 when it is there."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: python -m compression.jobs.layered_run RUN_DIR", file=sys.stderr)
        return 2
    folder = RunFolder(arguments[0])

    def work(report: Report) -> Mapping[str, Any]:
        from compression.export.layered import keep, layered
        from compression.export.source import read

        report("restoring the model from the packed file", 0.0)
        result = layered(read(folder, trained=False), say=report)
        keep(folder, result)
        return {"bytes": result.table.bytes, "prefixes": len(result.table.prefixes)}

    return _job(folder).carry_out(work)


def _job(folder: RunFolder) -> SideJob:
    return SideJob("layered file", folder, folder.bundle / "layered-job.json")


if __name__ == "__main__":
    sys.exit(main())
