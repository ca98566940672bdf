"""The export of a run in a separate process that a page can watch: ``python -m … RUN_DIR [N [BITS]]`` of this module.

``bundle/export.json`` in the run's folder holds the state, ``bundle/bundle.zip`` is the result; channel counts are
rounded up to multiples of ``N``; ``BITS`` chooses a precision of a run that has several.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compression import home
from compression.jobs.sidejob import DONE, FAILED, NONE, RUNNING, Job, Report, SideJob
from compression.runs.folder import RunFolder

__all__ = ["DONE", "FAILED", "NONE", "RUNNING", "Job", "bundle_path", "main", "start", "status"]

COMMAND = (sys.executable, "-m", home.module("compression.jobs.export_run"))


def bundle_path(folder: RunFolder) -> Path:
    """Where the bundle of a run is written."""
    return folder.bundle / "bundle.zip"


def start(
    folder: RunFolder,
    threads: int = 1,
    command: Sequence[str] = COMMAND,
    multiple: int = 1,
    bits: float | None = None,
) -> None:
    """Begin, unless it is running already; the process outlives the page and the app.

    Channel counts are rounded up to multiples of ``multiple``; ``bits``: as in :func:`compression.export.export`.

    Raises:
        CompressionError: the run's folder cannot be written.
    """
    precision = [] if bits is None else [str(bits)]
    _job(folder).start([*command, str(folder.path.resolve()), str(multiple), *precision], threads)


def status(folder: RunFolder) -> Job:
    """The state of this run's export; its ``result`` holds the measured figures.

    Raises:
        CompressionError: its file is damaged.
    """
    job = _job(folder).status()
    return Job(NONE) if job.state == DONE and not bundle_path(folder).is_file() else job


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the run in the folder named on the command line; exit status 0 when the bundle is written."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        path, *numbers = arguments
        values = [float(number) for number in numbers]
    except ValueError:
        values = [0.0] * 3
    if len(values) > 2 or not all(value >= 1 for value in values):
        print("usage: python -m compression.jobs.export_run RUN_DIR [N [BITS]]", file=sys.stderr)
        return 2
    folder, multiple, bits = RunFolder(path), int(values[0]) if values else 1, values[1] if values[1:] else None

    def work(report: Report) -> Mapping[str, Any]:
        from compression.export.bundle import export

        return export(folder, bundle_path(folder), multiple=multiple, bits=bits, say=report).to_dict()

    return _job(folder).carry_out(work)


def _job(folder: RunFolder) -> SideJob:
    return SideJob("export", folder, folder.bundle / "export.json")


if __name__ == "__main__":
    sys.exit(main())
