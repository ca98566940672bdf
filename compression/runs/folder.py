"""The run folder is the truth about a run; whatever else knows of it can be rebuilt from here.

::

    runs/<id>/spec.json       what was asked: budget, versions, threads; written once
              events.jsonl    what happened; one writer, the worker
              process.json    who carries it out (machine, process id, start time; the job on a cluster)
              heartbeat       touched every 2 seconds while that process lives
              checkpoint.pt   where a run can be taken up again
              result.json     written once, at the end of a run that is done
              log.txt         what the worker said, tracebacks included
              bundle/         the compressed model
              explain/        what the two models look at, once somebody asked
              cancel, pause   their presence asks the run to stop, or to write a checkpoint and then to stop
              reserve         16 KB given back when the disk is full, so that the run can still say so
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.points import Point
from compression.reading import check_version
from compression.reading import read_object
from compression.runs.events import Event
from compression.runs.events import EventWriter
from compression.runs.events import last_attempts
from compression.runs.events import last_state
from compression.runs.events import read_events
from compression.runs.files import unwritable
from compression.runs.files import write_json
from compression.runs.process import Handle
from compression.runs.specfile import RUN_ID
from compression.runs.specfile import check_spec

VERSION = 1
RESERVE_BYTES = 16 * 1024
QUEUED, RUNNING, DONE, FAILED, CANCELLED, LOST = "queued", "running", "done", "failed", "cancelled", "lost"
PAUSED = "paused"
ENDED = (DONE, FAILED, CANCELLED, LOST)
IDLE = (*ENDED, PAUSED)
"""States in which no process works on a run and none will by itself."""


class RunFolder:
    """Paths and contents of one run; reading it changes nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.id = self.path.name
        self.spec_path = self.path / "spec.json"
        self.events_path = self.path / "events.jsonl"
        self.process_path = self.path / "process.json"
        self.heartbeat_path = self.path / "heartbeat"
        self.checkpoint_path = self.path / "checkpoint.pt"
        self.result_path = self.path / "result.json"
        self.log_path = self.path / "log.txt"
        self.bundle = self.path / "bundle"
        self.cancel_path = self.path / "cancel"
        self.pause_path = self.path / "pause"
        self.reserve_path = self.path / "reserve"

    @classmethod
    def create(cls, root: str | Path, spec: dict[str, Any]) -> RunFolder:
        """Make the folder of a new run; ``spec.json`` comes last, so that a half-made folder is no run.

        Raises:
            CompressionError: the runs folder cannot be written, or its disk is full.
        """
        folder = cls(Path(root) / spec["id"])
        try:
            folder.path.mkdir(parents=True)
            folder.reserve_path.write_bytes(b"\0" * RESERVE_BYTES)
            write_json(folder.spec_path, {"version": VERSION, **spec})
        except OSError as error:
            folder.discard()
            raise CompressionError(unwritable(root, error)) from error
        return folder

    @classmethod
    def open(cls, root: str | Path, run_id: str) -> RunFolder:
        """The folder of an existing run.

        Raises:
            CompressionError: there is no such run.
        """
        folder = cls(Path(root) / run_id)
        if not re.fullmatch(RUN_ID, run_id) or not folder.spec_path.is_file():
            listed = f"looked in {root}; `python -m compression runs` lists those there are"
            raise CompressionError(f"no run {run_id!r}", listed)
        return folder

    def spec(self) -> dict[str, Any]:
        """What was asked.

        Raises:
            CompressionError: the file is damaged or of another version.
        """
        what, way_out = f"run spec {self.spec_path}", "put the file back, or remove the run's folder yourself"
        try:
            raw = read_object(self.spec_path, "run spec")
        except CompressionError as error:
            raise CompressionError(f"{error}; {way_out}") from error
        check_version(raw, VERSION, what)
        try:
            check_spec(raw, what)
        except CompressionError as error:
            raise CompressionError(f"{error}; {way_out}") from error
        return raw

    def budget(self) -> Budget:
        """The budget of the run (of a sweep: what its runs have in common)."""
        return Budget.from_dict(self.spec()["budget"])

    @property
    def is_sweep(self) -> bool:
        """Is this a sweep? Its runs may still have to be made."""
        return bool(self.spec().get("children"))

    def children(self) -> list[RunFolder]:
        """The runs of a sweep in their order, those that have been made; nothing for an ordinary run."""
        folders = [RunFolder(self.path.parent / name) for name in self.spec().get("children", ())]
        return [folder for folder in folders if folder.spec_path.is_file()]

    def parent(self) -> RunFolder | None:
        """The sweep that this run belongs to."""
        sweep = self.spec().get("sweep")
        return RunFolder(self.path.parent / sweep) if sweep else None

    def events(self, since: int = 0) -> list[Event]:
        """All events after the first ``since`` ones."""
        return read_events(self.events_path)[0][since:]

    def points(self) -> list[Point]:
        """The measured points, of each step the last attempt."""
        return [Point.from_dict(event) for event in last_attempts(self.events()) if event["kind"] == "point"]

    def attempts(self) -> int:
        """How many attempts have begun."""
        return max((event["attempt"] for event in self.events()), default=0)

    @property
    def state(self) -> str:
        """queued, running, paused, done, failed, cancelled or lost: the last told, and whether the worker lives."""
        return self._state(last_state(self.events_path))

    def state_of(self, events: list[Event]) -> str:
        """The state, when the events have been read already."""
        return self._state(next((event["state"] for event in reversed(events) if event["kind"] == "state"), None))

    def _state(self, told: str | None) -> str:
        if told in IDLE:
            return str(told)
        if self.alive():
            return RUNNING
        if self.cancel_path.exists():
            return CANCELLED
        return LOST if self.process_path.is_file() and not self.waits() else self._waiting()

    def handle(self) -> Handle | None:
        """Who carries out this run, or did; None when no process has taken it.

        Raises:
            CompressionError: ``process.json`` is damaged.
        """
        return Handle.find(self.process_path)

    def alive(self) -> bool:
        """Is a process carrying out this run?

        Raises:
            CompressionError: ``process.json`` is damaged.
        """
        handle = self.handle()
        return handle is not None and handle.alive(self.heartbeat_path, self.process_path)

    def waits(self) -> bool:
        """Was this run handed to a cluster whose machines have not begun it?

        Raises:
            CompressionError: ``process.json`` is damaged.
        """
        handle = self.handle()
        return handle is not None and handle.waits

    def _waiting(self) -> str:
        """The state of a run no process has taken: queued, unless it was paused or its sweep has ended."""
        parent = self.parent()
        if parent is None:
            return PAUSED if self.pause_path.exists() else QUEUED
        if not parent.spec_path.is_file():
            return LOST
        state = parent.state
        if state in (QUEUED, RUNNING):
            return QUEUED
        return state if state in (CANCELLED, PAUSED) else LOST

    def ask_to_stop(self) -> None:
        """Leave the file that the worker looks for; a waiting run is cancelled by it at once."""
        self.cancel_path.touch()
        self._withdraw()

    def ask_to_pause(self) -> None:
        """Leave the file that the worker looks for after each step; a waiting run is paused by it at once."""
        self.pause_path.touch()
        self._withdraw()

    def _withdraw(self) -> None:
        """Take a run that waits in a cluster back: a job that finds itself no longer named ends at once."""
        if self.waits():
            self.process_path.unlink(missing_ok=True)

    def put_back(self) -> None:
        """Make a run that stopped wait for a worker again; the caller sees to it that nobody else does the same."""
        for path in (self.process_path, self.cancel_path, self.pause_path):
            path.unlink(missing_ok=True)
        self.reserve_path.write_bytes(b"\0" * RESERVE_BYTES)
        self.tell(QUEUED)

    def tell(self, state: str, error: str | None = None) -> None:
        """Add a state to the events of a run no process carries out; where none ever did, only with an ``error``."""
        attempts = self.attempts()
        if attempts or error:
            with EventWriter(self.events_path, attempts or 1) as events:
                events.state(state, **({"error": error} if error else {}))

    def log(self, text: str) -> None:
        """Add to ``log.txt``; on a full disk there is nowhere to say so, and the state event says it."""
        with contextlib.suppress(OSError), self.log_path.open("a", encoding="utf-8") as stream:
            stream.write(text.rstrip("\n") + "\n")

    def give_back_reserve(self) -> None:
        """Free the space kept for the last words of a run on a full disk."""
        with contextlib.suppress(OSError):
            self.reserve_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Take back a folder that no worker has seen."""
        with contextlib.suppress(OSError):
            for path in self.path.iterdir():
                path.unlink()
            self.path.rmdir()
