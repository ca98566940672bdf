"""A process beside a finished run that makes one thing of it, so that a page can start it, watch it and stop it.

Its state is in a separate small JSON file; whoever reads that file sees at once when the process has ended.

``python -m compression.jobs.sidejob RUN_DIR STATE_FILE NAME COMMAND…`` waits for a slot, which needs no
torch and little memory, then becomes the command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from compression import home
from compression.errors import CompressionError, Superseded
from compression.jobs import slots
from compression.reading import Number, Text, check_version, read_object, typed
from compression.runs import signals
from compression.runs.files import disk_full, write_json
from compression.runs.folder import RunFolder
from compression.runs.heartbeat import Heartbeat
from compression.runs.launcher import environment
from compression.runs.paths import append_to, make_folder, touch
from compression.runs.process import Handle

VERSION = 1
NONE, RUNNING, DONE, FAILED, CANCELLED = "none", "running", "done", "failed", "cancelled"
GRACE_SECONDS = 5.0
POLL_SECONDS, SLOT_SECONDS = 0.05, 0.2  # between looks at a process that is to end, and at the line for a slot

Report = Callable[[str, float], None]
"""Called with what the job does now, and the share of it that is done."""


@dataclass(frozen=True)
class Job:
    """Its state: the ``share`` of the work that is done, in ``text`` what it does now, and the final ``result``."""

    state: Text
    share: Number = 0.0
    text: Text = ""
    error: Text = ""
    result: Annotated[Mapping[str, Any], Field(alias="told")] = field(default_factory=dict)


class _File(TypedDict):
    job: Job
    handle: Handle


_FILE = TypeAdapter(_File)


@dataclass(frozen=True)
class SideJob:
    """One kind of job on one run: ``name`` in messages (``export``), ``path`` the file with its state."""

    name: str
    folder: RunFolder
    path: Path

    def start(self, command: Sequence[str], threads: int = 1) -> None:
        """Begin or wait for a turn, unless it is running already; the process outlives the page and the app.

        Raises:
            CompressionError: the run's folder cannot be written, or too many wait already.
        """
        if self.status().state == RUNNING:
            return
        slots.check(self.folder)
        try:
            make_folder(self.path.parent)
            with append_to(self.folder.log_path) as log:
                process = subprocess.Popen(
                    self._waiting(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    env=environment(threads), start_new_session=True,
                )  # fmt: skip
            touch(self._heartbeat)
            self._write(Handle.from_pid(process.pid), Job(RUNNING, text="starting"))
        except OSError as error:
            raise CompressionError(f"the {self.name} cannot be started: {error.strerror or error}") from error

    def status(self) -> Job:
        """The state in its file; failed where the process has ended without writing one.

        Raises:
            CompressionError: its file is damaged.
        """
        if not self.path.is_file():
            return Job(NONE)
        job, handle = self._read()
        if job.state == RUNNING and not handle.alive(self._heartbeat):
            return Job(FAILED, error=f"the process of the {self.name} ended without a word (see {self._log})")
        return job

    def stop(self, grace: float = GRACE_SECONDS) -> Job:
        """End it now: SIGTERM, after ``grace`` seconds SIGKILL. Earlier results stay, and nothing unfinished.

        Raises:
            CompressionError: its file is damaged.
        """
        if self.status().state != RUNNING:
            return self.status()
        _, handle = self._read()
        if not self._ended(handle, signal.SIGTERM, grace):
            self._ended(handle, signal.SIGKILL, grace)
        job, _ = self._read()
        if job.state == RUNNING:  # it did not finish in the last moment
            self._write(handle, Job(CANCELLED, job.share, job.text))
        return self.status()

    def report_waiting(self, ahead: int) -> None:
        """In the process itself: write how many jobs have to end first."""
        text = f"waiting for {ahead} other job{'s' * (ahead > 1)}"
        if self.status().text != text:
            self._write(Handle.current(), Job(RUNNING, text=text))

    def carry_out(self, work: Callable[[Report], Mapping[str, Any]]) -> int:
        """In the process itself: do the work and write its state; returns the exit status of the process.

        Raises:
            Superseded: another process was started for the same job; this one changes nothing more.
        """
        handle = Handle.current()

        def confirm() -> None:
            if self.path.is_file() and not self._read()[1].is_process_of(handle):
                raise Superseded(f"another process does the {self.name} of run {self.folder.id} now: this one stops")

        def write(job: Job) -> None:
            confirm()
            self._write(handle, job)

        make_folder(self.path.parent)
        with Heartbeat(self._heartbeat, confirm=confirm):
            try:
                self._write(handle, Job(RUNNING, text="starting"))
                result = work(lambda text, share: write(Job(RUNNING, share, text)))
                write(Job(DONE, 1.0, result=result))
            except Superseded:
                raise
            except Exception as error:  # the outermost frame: shown on the page, never dropped
                write(Job(FAILED, error=self._line(error)))
                if isinstance(error, CompressionError):
                    return 1
                raise
        return 0

    def _ended(self, handle: Handle, sign: int, seconds: float) -> bool:
        """Send a signal to the job's process group and wait for the process to end."""
        signals.signal_group(handle, self.folder.path, sign)
        until = time.monotonic() + seconds
        while time.monotonic() < until and handle.process() is not None:
            time.sleep(POLL_SECONDS)
        return handle.process() is None

    def _line(self, error: Exception) -> str:
        if disk_full(error):
            return f"no space left on the disk of {self.folder.path}; free some and try the {self.name} again"
        if isinstance(error, CompressionError):
            return str(error)
        return f"{type(error).__name__}: {error} (details in {self._log})"

    @property
    def _heartbeat(self) -> Path:
        return self.path.with_suffix(".heartbeat")

    @property
    def _log(self) -> Path:
        return self.folder.log_path

    def _read(self) -> tuple[Job, Handle]:
        raw = read_object(self.path, f"{self.name} state")
        check_version(raw, VERSION, f"{self.name} state {self.path}")
        state = typed(_FILE, raw, f"{self.name} state {self.path}")
        return state["job"], state["handle"]

    def _write(self, handle: Handle, job: Job) -> None:
        state: _File = {"job": job, "handle": handle}
        write_json(self.path, {"version": VERSION, **_FILE.dump_python(state, by_alias=True)})

    def _waiting(self, command: Sequence[str]) -> list[str]:
        """The command that waits for a slot and then becomes ``command``."""
        paths = [str(self.folder.path.resolve()), str(self.path.resolve())]
        return [sys.executable, "-m", home.module("compression.jobs.sidejob"), *paths, self.name, *command]


def main(arguments: Sequence[str]) -> None:
    """Wait for a slot and become the command; the ticket's lock passes to it."""
    folder, state, name, *command = arguments
    job = SideJob(name, RunFolder(folder), Path(state))
    with slots.ticket(job.folder) as ticket:
        while ticket is not None and (ahead := ticket.ahead()):
            job.report_waiting(ahead)
            time.sleep(SLOT_SECONDS)
        if ticket is not None:
            os.set_inheritable(ticket.file, True)
        os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
