"""An export in a process of its own, so that a page can watch it: ``python -m compression.export.job RUN_DIR``.

``bundle/export.json`` in the run's folder tells how it stands, ``bundle/bundle.zip`` is what it makes.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.runs.files import check_version
from compression.runs.files import read_object
from compression.runs.files import write_json
from compression.runs.folder import RunFolder
from compression.runs.folder import disk_full
from compression.runs.launcher import environment
from compression.runs.process import Handle

VERSION = 1
NONE, RUNNING, DONE, FAILED = "none", "running", "done", "failed"
COMMAND = (sys.executable, "-m", "compression.export.job")


@dataclass(frozen=True)
class Job:
    """How an export stands: ``share`` of it that is done, what it does in ``text``; ``told`` is what it measured."""

    state: str
    share: float = 0.0
    text: str = ""
    error: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)


def bundle_path(folder: RunFolder) -> Path:
    """Where the bundle of a run is made."""
    return folder.bundle / "bundle.zip"


def start(folder: RunFolder, threads: int = 1, command: Sequence[str] = COMMAND) -> None:
    """Begin, unless it goes on already; the process outlives the page and the app.

    Raises:
        CompressionError: the run's folder cannot be written.
    """
    if status(folder).state == RUNNING:
        return
    try:
        folder.bundle.mkdir(exist_ok=True)
        with folder.log_path.open("ab") as log:
            process = subprocess.Popen(
                [*command, str(folder.path.resolve())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=environment(threads), start_new_session=True,
            )  # fmt: skip
        _write(folder, Handle.of(process.pid), Job(RUNNING, text="starting"))
    except OSError as error:
        raise CompressionError(f"the export cannot be started: {error.strerror or error}") from error


def status(folder: RunFolder) -> Job:
    """How the export of this run stands.

    Raises:
        CompressionError: its file is damaged.
    """
    path = _path(folder)
    if not path.is_file():
        return Job(NONE)
    raw = read_object(path, "export state")
    check_version(raw, VERSION, f"export state {path}")
    try:
        job, handle = Job(**raw["job"]), Handle(**raw["handle"])
    except (KeyError, TypeError) as error:
        raise CompressionError(f"export state {path} is damaged ({error}): delete it") from error
    if job.state == RUNNING and not handle.alive(path):
        return Job(FAILED, error=f"the process of the export ended without a word (see {folder.log_path})")
    if job.state == DONE and not bundle_path(folder).is_file():
        return Job(NONE)
    return job


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the run in the folder named on the command line; exit status 0 when the bundle is there."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: python -m compression.export.job RUN_DIR", file=sys.stderr)
        return 2
    folder, handle = RunFolder(arguments[0]), Handle.current()

    def say(text: str, share: float) -> None:
        _write(folder, handle, Job(RUNNING, share, text))

    try:
        say("starting", 0.0)
        from compression.export.bundle import export

        made = export(folder, bundle_path(folder), say=say)
    except Exception as error:  # the outermost frame: told on the page, never dropped
        _write(folder, handle, Job(FAILED, error=_line(error, folder)))
        if isinstance(error, CompressionError):
            return 1
        raise
    _write(folder, handle, Job(DONE, 1.0, told=made.to_dict()))
    return 0


def _line(error: Exception, folder: RunFolder) -> str:
    if disk_full(error):
        return f"no space left on the disk of {folder.path}; free some and export again"
    if isinstance(error, CompressionError):
        return str(error)
    return f"{type(error).__name__}: {error} (details in {folder.log_path})"


def _path(folder: RunFolder) -> Path:
    return folder.bundle / "export.json"


def _write(folder: RunFolder, handle: Handle, job: Job) -> None:
    value = {"version": VERSION, "handle": dataclasses.asdict(handle), "job": dataclasses.asdict(job)}
    write_json(_path(folder), value)


if __name__ == "__main__":
    sys.exit(main())
