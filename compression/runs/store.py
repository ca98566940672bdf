"""The index and queue over a folder of runs: one SQLite file that can be deleted at any time and comes back.

Everything in it is read from the run folders, so nothing is lost with it. WAL, a busy timeout and ``BEGIN IMMEDIATE``
around every read-then-write let two apps, many tabs and the workers share it; it must not lie on a network file
system, which is why workers elsewhere touch only their folders. Where the file cannot be written, the same tables are
created in memory: runs are listed and deleted there, and none is started.
"""

from __future__ import annotations

import builtins
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from compression import home
from compression.errors import CompressionError
from compression.points import Point
from compression.runs.database import Database, Unwritable
from compression.runs.files import written_in
from compression.runs.folder import QUEUED, RunFolder
from compression.runs.index import RunInfo, info, point
from compression.runs.launch_config import configured_launcher, configured_slots, threads_each
from compression.runs.launcher import Launcher
from compression.runs.sync import Sync, Unreadable

T = TypeVar("T")
_ALL = "SELECT * FROM runs"


class Store:
    """The runs below ``root``. ``slots`` runs go at a time (default: COMPRESSION_SLOTS or one), each on ``threads``.

    Others wait. ``launcher`` starts them (default: the one that COMPRESSION_LAUNCHER names).
    ``problems`` lists, after :meth:`sync`, the folders that are no run readable here, each with the reason.

    Raises:
        CompressionError: there is no folder ``root`` and none can be created.
    """

    def __init__(
        self, root: str | Path = home.RUNS, *, slots: int | None = None, launcher: Launcher | None = None
    ) -> None:
        self.root = Path(root)
        self.launcher = launcher or configured_launcher()
        self.slots = slots if slots is not None else configured_slots(self.launcher)
        self.problems: list[str] = []
        self._database = Database(self.root)
        self._unreadable = Unreadable()
        with written_in(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Unwritable), self._database.file():
            pass  # makes the file where it can

    @property
    def threads(self) -> int:
        """Threads of each run."""
        return threads_each(self.launcher, self.slots)

    def list(self) -> list[RunInfo]:
        """All runs, newest first."""
        return self._synced(lambda db: [info(row) for row in db.execute(f"{_ALL} ORDER BY created DESC, id DESC")])

    def get(self, run_id: str) -> RunInfo:
        """One run.

        Raises:
            CompressionError: there is none of this id.
        """
        folder = RunFolder.open(self.root, run_id)
        row = self._synced(lambda db: db.execute(f"{_ALL} WHERE id = ?", (run_id,)).fetchone())
        if row is None:
            folder.spec()
            raise CompressionError(f"run {run_id} cannot be read: {'; '.join(self.problems)}")
        return info(row)

    def points(self, *run_ids: str, phases: Sequence[str] = ()) -> dict[str, builtins.list[Point]]:
        """The points of these runs, in the order of their steps; of these phases only, where any are named."""
        marks, named = (",".join("?" * len(values)) for values in (run_ids, phases))
        query = f"SELECT run, point FROM points WHERE run IN ({marks})"
        query += f" AND phase IN ({named})" if phases else ""
        rows = self._synced(lambda db: db.execute(f"{query} ORDER BY step, rowid", (*run_ids, *phases)).fetchall())
        points: dict[str, builtins.list[Point]] = {run_id: [] for run_id in run_ids}
        for row in rows:
            points[row["run"]].append(point(row))
        return points

    def add(self, *specs: dict[str, Any]) -> builtins.list[RunFolder]:
        """Create the folders of new runs, all or none, unseen by others until the last exists; then :meth:`sync`.

        Raises:
            CompressionError: a folder cannot be written, or a worker that should start cannot be started; the folders
                are then removed.
        """
        created: builtins.list[RunFolder] = []
        with self.alone():
            try:
                created += (RunFolder.create(self.root, spec) for spec in specs)
            except CompressionError:
                for folder in created:
                    folder.discard()
                raise
        self.sync()
        for problem in self.problems:
            if any(folder.id in problem for folder in created):
                self._take_back(created)
                raise CompressionError(problem)
        return created

    def _take_back(self, folders: builtins.list[RunFolder]) -> None:
        """Discard the folders of runs that nobody has begun."""
        with self.alone():
            for folder in folders:
                if folder.state == QUEUED and not folder.process_path.exists():
                    folder.discard()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While the ``with`` block runs, nobody else starts, puts back or deletes a run of this store."""
        with self._database.alone():
            yield

    def sync(self) -> None:
        """Bring the index up to date with the folders and start what waits while a slot is free; idempotent."""
        self._synced(lambda db: None)

    def _synced(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """The answer of the index once it is up to date, in its file or, where that cannot be written, in memory."""
        try:
            with self._database.file() as db:
                sync = self._sync(db, self.launcher)
                answer = query(db)
        except Unwritable as error:
            with self._database.memory() as db:
                sync = self._sync(db, None)
                answer = query(db)
            sync.problems.append(f"{error}: runs are listed from their folders, and none is started")
        self.problems = sync.problems
        return answer

    def _sync(self, db: sqlite3.Connection, launcher: Launcher | None) -> Sync:
        sync = Sync(db, self.root, launcher, self.slots, self.threads, self._unreadable)
        sync.run()
        return sync
