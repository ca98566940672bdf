"""Who carries out a run, and whether that process still lives.

A process id alone is no proof, since ids are used again: the start time must agree too. From another machine the
heartbeat decides: the worker touches the file ``heartbeat`` every 2 seconds from a thread, evaluations included.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from compression.errors import CompressionError
from compression.runs.files import check_version
from compression.runs.files import read_object
from compression.runs.files import write_json

VERSION = 1
BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
_SAME_START = 2.0


@dataclass(frozen=True)
class Handle:
    """A worker process: its machine, its id there, and when it started (seconds since 1970)."""

    host: str
    pid: int
    start: float
    launcher: str = "local"

    @classmethod
    def of(cls, pid: int, launcher: str = "local") -> Handle:
        """The handle of a live process of this machine.

        Raises:
            psutil.NoSuchProcess: it is gone already.
        """
        return cls(socket.gethostname(), pid, psutil.Process(pid).create_time(), launcher)

    @classmethod
    def current(cls) -> Handle:
        """The handle of this very process."""
        return cls.of(os.getpid())

    @classmethod
    def load(cls, path: Path) -> Handle:
        """Read ``process.json``."""
        raw = read_object(path, "process file")
        check_version(raw, VERSION, f"process file {path}")
        try:
            return cls(str(raw["host"]), int(raw["pid"]), float(raw["start"]), str(raw["launcher"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CompressionError(f"process file {path} is damaged: {error!r}") from error

    def save(self, path: Path) -> None:
        """Write ``process.json``."""
        write_json(path, {"version": VERSION, **dataclasses.asdict(self)})

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
        if self.here:
            return self.process() is not None
        ages = [time.time() - path.stat().st_mtime for path in signs if path.exists()]
        return bool(ages) and min(ages) < SILENT_SECONDS


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
