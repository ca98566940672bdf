"""A run as its folder describes it: the request, what happened, and the state it is in (files: :mod:`.layout`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from compression import home, owncode
from compression.budget import Budget
from compression.errors import CompressionError
from compression.points import Point
from compression.reading import check_version, cut, read_object, short
from compression.representation import Represented
from compression.runs.events import Event, last_attempts, last_state, read_events
from compression.runs.eventwriter import EventWriter
from compression.runs.files import written_in
from compression.runs.layout import VERSION, RunFiles
from compression.runs.paths import check_contents, check_folder, is_run_id
from compression.runs.process import Handle
from compression.runs.specfile import check_spec

QUEUED, RUNNING, DONE, FAILED, CANCELLED, LOST = "queued", "running", "done", "failed", "cancelled", "lost"
PAUSED = "paused"
ENDED = (DONE, FAILED, CANCELLED, LOST)
IDLE = (*ENDED, PAUSED)
"""States in which no process works on a run and none will by itself."""
WAY_OUT = "put the file back, or remove the run's folder yourself"


class RunFolder(RunFiles, Represented):
    """Paths and contents of one run; reading it changes nothing."""

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def open(cls, root: str | Path, run_id: str) -> RunFolder:
        """The folder of an existing run, to be read and written.

        Raises:
            CompressionError: there is no such run, or it is or holds a link, a pipe or a device.
        """
        folder = cls.named(root, run_id)
        check_contents(folder.path)
        return folder

    @classmethod
    def named(cls, root: str | Path, run_id: str) -> RunFolder:
        """The folder of an existing run, whatever it holds: what :meth:`open` refuses can still be removed.

        Raises:
            CompressionError: there is no such run, or it is a link.
        """
        folder = cls(Path(root) / run_id)
        try:
            if not is_run_id(run_id):
                raise FileNotFoundError(run_id)
            check_folder(folder.path)
        except FileNotFoundError as error:
            listed = f"looked in {root}; `{home.PROGRAM} runs` lists those there are"
            raise CompressionError(f"no run {short(run_id)}", listed) from error
        return folder

    def spec(self) -> dict[str, Any]:
        """The request: budget, versions, threads.

        Raises:
            CompressionError: the file is damaged or of another version.
        """
        what = f"run spec {self.spec_path}"
        try:
            raw = read_object(self.spec_path, "run spec")
        except CompressionError as error:
            raise CompressionError(f"{error}; {WAY_OUT}") from error
        check_version(raw, VERSION, what)
        try:
            check_spec(raw, what)
        except CompressionError as error:
            raise CompressionError(f"{error}; {WAY_OUT}") from error
        return raw

    def digest(self) -> str:
        """The SHA-256 of the request, whatever the layout of the file."""
        return hashlib.sha256(json.dumps(self.spec(), sort_keys=True).encode()).hexdigest()

    def budget(self) -> Budget:
        """The budget of the run (of a sweep: what its runs have in common).

        Raises:
            CompressionError: it cannot be read, or names code that lies in the runs folder.
        """
        budget = Budget.from_dict(self.spec()["budget"])
        self._check_code(budget)
        return budget

    def _check_code(self, budget: Budget) -> None:
        """Refuse code that lies in a run: who sends one would have it run here, by the queue, without a word.

        Raises:
            CompressionError: the model or the task is a file within a folder of the runs folder.
        """
        runs = self.path.resolve().parent
        for name in filter(owncode.is_own, (budget.model, budget.data)):
            if runs in owncode.divided(name)[0].parent.parents:
                raise CompressionError(
                    f"run {self.id} names code that lies in the runs folder, {cut(name)}, which is never run: "
                    "look at it, put it elsewhere, and start a new run"
                )

    @property
    def is_sweep(self) -> bool:
        """Is this a sweep? Its runs may not exist yet."""
        return bool(self.spec().get("children"))

    def child_ids(self) -> list[str]:
        """The ids of the runs of a sweep in their order, existing or not; nothing for an ordinary run.

        Raises:
            CompressionError: the spec names something else than other runs of the same folder.
        """
        names = self.spec().get("children") or []
        if not isinstance(names, list) or len({short(name) for name in names}) < len(names):
            raise CompressionError(f"run spec {self.spec_path} names its runs wrongly; {WAY_OUT}")
        for name in names:
            if not is_run_id(name) or name == self.path.name:
                raise CompressionError(f"run spec {self.spec_path} names {short(name)} as a run of it; {WAY_OUT}")
        return names

    def child(self, name: str) -> RunFolder | None:
        """One run of a sweep, by an id of :meth:`child_ids`; None when it does not exist yet.

        Raises:
            CompressionError: the folder of this name is no run, or not one of this sweep.
        """
        child = RunFolder(self.path.parent / name)
        try:
            check_folder(child.path)
        except FileNotFoundError:
            return None
        if child.spec().get("sweep") != self.path.name:
            raise CompressionError(f"run {name} is no run of sweep {self.path.name}, whose spec names it; {WAY_OUT}")
        return child

    def children(self) -> list[RunFolder]:
        """The runs of a sweep in their order, those that exist; nothing for an ordinary run.

        Raises:
            CompressionError: see :meth:`child_ids` and :meth:`child`.
        """
        return [child for name in self.child_ids() if (child := self.child(name)) is not None]

    def parts(self) -> list[RunFolder]:
        """The run itself, or those of a sweep that exist."""
        return self.children() if self.is_sweep else [self]

    def parent(self) -> RunFolder | None:
        """The sweep that this run belongs to; its folder may have been removed.

        Raises:
            CompressionError: the spec names something else than a sweep of the same folder, which names this run.
        """
        name = self.spec().get("sweep")
        if not name:
            return None
        wrong = f"run spec {self.spec_path} names {short(name)} as its sweep; {WAY_OUT}"
        if not is_run_id(name) or name == self.path.name:
            raise CompressionError(wrong)
        parent = RunFolder(self.path.parent / name)
        try:
            check_folder(parent.path)
        except FileNotFoundError:
            return parent
        if parent.spec().get("sweep") or self.path.name not in parent.child_ids():
            raise CompressionError(wrong)
        return parent

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
        """queued, running, paused, done, failed, cancelled or lost: the last reported, and whether the worker lives."""
        return self._state(last_state(self.events_path))

    def state_of(self, events: list[Event]) -> str:
        """The state, when the events have been read already."""
        return self._state(next((event["state"] for event in reversed(events) if event["kind"] == "state"), None))

    def _state(self, reported: str | None) -> str:
        if reported in IDLE:
            return str(reported)
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
        return handle is not None and handle.alive(self.heartbeat_path)

    def is_sure(self) -> bool:
        """Is it certain whether a process carries out this run? A process of another machine must be heard first.

        Raises:
            CompressionError: ``process.json`` is damaged.
        """
        handle = self.handle()
        return handle is None or handle.is_sure(self.heartbeat_path)

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
        self.leave(self.cancel_path)
        self._withdraw()

    def ask_to_pause(self) -> None:
        """Leave the file that the worker looks for after each step; a waiting run is paused by it at once."""
        self.leave(self.pause_path)
        self._withdraw()

    def _withdraw(self) -> None:
        """Withdraw a run that waits in a cluster: a job that is no longer named ends at once."""
        if self.waits():
            self.process_path.unlink(missing_ok=True)

    def put_back(self) -> None:
        """Make a run that stopped wait for a worker again; the caller sees to it that nobody else does the same."""
        with written_in(self.path.parent):
            self.fill_reserve()
            for path in (self.process_path, self.heartbeat_path, self.cancel_path, self.pause_path):
                path.unlink(missing_ok=True)
            self.add_state(QUEUED)

    def add_state(self, state: str, error: str | None = None) -> None:
        """Add a state to the events of a run no process carries out; where none ever did, only with an ``error``."""
        attempts = self.attempts()
        if attempts or error:
            with EventWriter(self.events_path, attempts or 1) as events:
                events.state(state, **({"error": error} if error else {}))
