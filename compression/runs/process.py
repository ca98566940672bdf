"""Who carries out a run, and whether that process still lives.

A process id alone is no proof, since ids are used again: the start time must agree too, counted from the start of the
machine where that is known, so that setting the clock changes nothing. On another machine the heartbeat decides
(:mod:`.heartbeat`). A run handed to a cluster waits there as a job first, with no process yet.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from compression.errors import CompressionError
from compression.reading import Number, Seconds, Text, Whole, check_version, read_object, typed
from compression.runs.files import write_json
from compression.runs.heartbeat import LISTENER, Listener

VERSION = 1
JOB = "COMPRESSION_JOB"
"""The environment variable that holds, for a worker on a cluster, the name of its job."""
_SAME_START = 2.0


@dataclass(frozen=True)
class Handle:
    """A worker process: its machine, its id there, and when it started (seconds since 1970).

    ``after_boot`` is the start in seconds since that of the machine, on Linux only: elsewhere ``start`` itself does not
    change when the clock is set. On a cluster also its ``job``; process id 0 says that the job waits for its process.
    """

    host: Text
    pid: Whole
    start: Seconds
    launcher: Text = "local"
    job: Text | None = None
    after_boot: Number | None = None

    @classmethod
    def from_pid(cls, pid: int) -> Handle:
        """The handle of a live process of this machine.

        Raises:
            psutil.NoSuchProcess: it has ended already.
        """
        process = psutil.Process(pid)
        return cls(socket.gethostname(), pid, process.create_time(), after_boot=_after_boot(process))

    @classmethod
    def current(cls) -> Handle:
        """The handle of this very process."""
        me, job = cls.from_pid(os.getpid()), os.environ.get(JOB)
        return dataclasses.replace(me, launcher="ray", job=job) if job else me

    @classmethod
    def waiting(cls, launcher: str, job: str) -> Handle:
        """The handle of a job handed to a cluster just now."""
        return cls("", 0, time.time(), launcher, job)

    @classmethod
    def load(cls, path: Path) -> Handle:
        """Read ``process.json``.

        Raises:
            CompressionError: there is none, or it is damaged.
        """
        raw = read_object(path, "process file")
        check_version(raw, VERSION, f"process file {path}")
        return typed(_HANDLE, raw, f"process file {path}")

    @classmethod
    def find(cls, path: Path) -> Handle | None:
        """What ``process.json`` says; None when there is none, or when it is removed at this very moment.

        Raises:
            CompressionError: the file is damaged.
        """
        try:
            return cls.load(path)
        except CompressionError:
            if path.is_file():
                raise
            return None

    def save(self, path: Path) -> None:
        """Write ``process.json``."""
        write_json(path, {"version": VERSION, **dataclasses.asdict(self)})

    @property
    def waits(self) -> bool:
        """Was it handed to a cluster that has not started its process yet?"""
        return self.pid == 0

    @property
    def here(self) -> bool:
        """Is this a process of this machine?"""
        return self.host == socket.gethostname()

    def is_process_of(self, other: Handle) -> bool:
        """Do both name the same process (of the same job)? Its start says more than a host name, which two may have."""
        return (self.pid, self.job) == (other.pid, other.job) and self._started_with(other)

    def _started_with(self, other: Handle) -> bool:
        if self.after_boot is not None and other.after_boot is not None:
            return abs(self.after_boot - other.after_boot) < _SAME_START
        return abs(self.start - other.start) < _SAME_START

    def process(self) -> psutil.Process | None:
        """The live process, or None when it has ended (a zombie has) or another one carries its number."""
        if not self.here:
            return None
        try:
            process = psutil.Process(self.pid)
            same = self._started_with(Handle.from_pid(self.pid))
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def alive(self, heartbeat: Path | None = None, listener: Listener = LISTENER) -> bool:
        """Does it live? Of a process on another machine its ``heartbeat`` decides, for whoever listens long enough.

        Until then it is taken to be alive, see :meth:`is_sure`.
        """
        if self.waits:
            return False
        if self.here:
            return self.process() is not None
        return heartbeat is not None and listener.lives(heartbeat, self)

    def is_sure(self, heartbeat: Path, listener: Listener = LISTENER) -> bool:
        """Is what :meth:`alive` says certain?"""
        return self.waits or self.here or listener.is_sure(heartbeat, self)


_HANDLE = TypeAdapter(Handle)


def _after_boot(process: psutil.Process) -> float | None:
    """Seconds from the start of the machine to that of the process, which Linux knows whatever the time of day."""
    if not psutil.LINUX:
        return None
    boot = psutil.boot_time()  # called first: older versions of psutil add its last value to the start time
    return process.create_time() - boot
