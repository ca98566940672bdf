"""Who carries out a run, and whether that process still lives.

A process id alone is no proof, since ids are used again: the start time must agree too. From another machine the
heartbeat decides: the worker touches the file ``heartbeat`` every 2 seconds from a thread, evaluations included.
A run handed to a cluster waits there as a job first, with no process yet.
"""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from compression.errors import CompressionError
from compression.reading import Seconds
from compression.reading import Text
from compression.reading import Whole
from compression.reading import check_version
from compression.reading import read_object
from compression.reading import typed
from compression.runs.files import write_json

VERSION = 1
BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
JOB = "COMPRESSION_JOB"
"""The environment variable that tells a worker on a cluster the name of its job."""
_SAME_START = 2.0


@dataclass(frozen=True)
class Handle:
    """A worker process: its machine, its id there, and when it started (seconds since 1970).

    On a cluster also its ``job``; process id 0 says that the job waits for its process.
    """

    host: Text
    pid: Whole
    start: Seconds
    launcher: Text = "local"
    job: Text | None = None

    @classmethod
    def of(cls, pid: int) -> Handle:
        """The handle of a live process of this machine.

        Raises:
            psutil.NoSuchProcess: it is gone already.
        """
        return cls(socket.gethostname(), pid, psutil.Process(pid).create_time())

    @classmethod
    def current(cls) -> Handle:
        """The handle of this very process."""
        me, job = cls.of(os.getpid()), os.environ.get(JOB)
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
        """What ``process.json`` says; None when there is none, or when it goes at this very moment.

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

    def process(self) -> psutil.Process | None:
        """The live process, or None when it has ended (a zombie has) or another one carries its number."""
        if not self.here:
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.start) < _SAME_START
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def alive(self, *signs: Path) -> bool:
        """Does it live? ``signs`` are the files whose age tells when the process is on another machine."""
        if self.waits:
            return False
        if self.here:
            return self.process() is not None
        return any(_age(path) < SILENT_SECONDS for path in signs)


_HANDLE = TypeAdapter(Handle)


def _age(path: Path) -> float:
    """Seconds since the file was touched; infinite when there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


class Heartbeat:
    """Touches a file every 2 seconds while the ``with`` block runs, whatever the main thread is busy with."""

    def __init__(self, path: Path, seconds: float = BEAT_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._path.touch()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._path.touch()
            except OSError:
                continue  # a full disk or a deleted folder: the run itself meets it and says so
