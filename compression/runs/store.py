"""The index and queue over a folder of runs: one SQLite file that can be deleted at any time and comes back.

Everything in it is read from the run folders, so nothing is lost with it. WAL, a busy timeout and ``BEGIN IMMEDIATE``
around every read-then-write let two apps, many tabs and the workers share it; it must not lie on a network file
system, which is why workers elsewhere touch only their folders.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.points import Point
from compression.runs.events import read_events
from compression.runs.files import unwritable
from compression.runs.folder import QUEUED
from compression.runs.folder import RunFolder
from compression.runs.index import CLAIM
from compression.runs.index import SCHEMA_VERSION
from compression.runs.index import RunInfo
from compression.runs.index import changed
from compression.runs.index import info
from compression.runs.index import insert
from compression.runs.index import known
from compression.runs.index import make_tables
from compression.runs.index import record
from compression.runs.index import size
from compression.runs.index import use_wal
from compression.runs.index import work_to_do
from compression.runs.launcher import Launcher
from compression.runs.place import launcher_asked
from compression.runs.place import launcher_of
from compression.runs.place import slots_asked
from compression.runs.place import threads_each

BUSY_MILLISECONDS = 30_000
"""How long to wait for another process that writes: handing a run to a cluster takes it up to several seconds."""


class Store:
    """The runs below ``root``. ``slots`` runs go at a time (default: COMPRESSION_SLOTS or one), each on ``threads``.

    Others wait. ``launcher`` starts them (default: the one that COMPRESSION_LAUNCHER names).
    ``problems`` lists, after :meth:`sync`, the folders that are no run readable here, each with the reason.

    Raises:
        CompressionError: ``root`` cannot be written.
    """

    def __init__(
        self, root: str | Path = "runs", *, slots: int | None = None, launcher: Launcher | None = None
    ) -> None:
        self.root = Path(root)
        self.launcher = launcher or launcher_asked()
        self.slots = slots if slots is not None else slots_asked(self.launcher)
        self.problems: list[str] = []
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CompressionError(unwritable(self.root, error)) from error
        with self._connect():
            pass  # makes the file where it can, so that a folder that cannot be written is refused here

    @property
    def threads(self) -> int:
        """Threads of each run."""
        return threads_each(self.launcher, self.slots)

    def list(self) -> list[RunInfo]:
        """All runs, newest first."""
        self.sync()
        with self._connect() as db:
            return [info(row) for row in db.execute("SELECT * FROM runs ORDER BY created DESC, id DESC")]

    def get(self, run_id: str) -> RunInfo:
        """One run.

        Raises:
            CompressionError: there is none of this id.
        """
        folder = RunFolder.open(self.root, run_id)
        self.sync()
        with self._connect() as db:
            row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            folder.spec()
            raise CompressionError(f"run {run_id} cannot be read: {'; '.join(self.problems)}")
        return info(row)

    def points(self, *run_ids: str, phases: Sequence[str] = ()) -> dict[str, builtins.list[Point]]:
        """The points of these runs, in the order of their steps; of these phases only, where any are named."""
        marks, named = (",".join("?" * len(values)) for values in (run_ids, phases))
        found: dict[str, builtins.list[Point]] = {run_id: [] for run_id in run_ids}
        with self._connect() as db:
            query = f"SELECT run, point FROM points WHERE run IN ({marks})"
            query += f" AND phase IN ({named})" if phases else ""
            for row in db.execute(f"{query} ORDER BY step, rowid", (*run_ids, *phases)):
                found[row["run"]].append(Point.from_dict(json.loads(row["point"])))
        return found

    def add(self, *specs: dict[str, Any]) -> builtins.list[RunFolder]:
        """Make the folders of new runs, all or none, unseen by others until the last is made; then :meth:`sync`.

        Raises:
            CompressionError: a folder cannot be written, or a worker that should start cannot be started; the folders
                are then taken back.
        """
        made: builtins.list[RunFolder] = []
        with self._writing():
            try:
                made += (RunFolder.create(self.root, spec) for spec in specs)
            except CompressionError:
                for folder in made:
                    folder.discard()
                raise
        self.sync()
        for problem in self.problems:
            if any(folder.id in problem for folder in made):
                self._take_back(made)
                raise CompressionError(problem)
        return made

    def _take_back(self, folders: builtins.list[RunFolder]) -> None:
        """Discard the folders of runs that nobody has begun."""
        with self._writing():
            for folder in folders:
                if folder.state == QUEUED and not folder.process_path.exists():
                    folder.discard()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While the ``with`` block runs, nobody else starts, puts back or deletes a run of this store."""
        with self._writing():
            yield

    def sync(self) -> None:
        """Bring the index up to date with the folders and start what waits while a slot is free; idempotent."""
        self.problems = []
        with self._connect() as db:
            self._ask_cluster(db)
            if not work_to_do(self._folders(), known(db), self.slots):
                return
        with self._writing() as db:
            folders = self._folders()  # looked at again: another process may have added to them
            for gone in known(db).keys() - folders.keys():
                db.execute("DELETE FROM runs WHERE id = ?", (gone,))
                db.execute("DELETE FROM points WHERE run = ?", (gone,))
            for _ in range(2):  # the second time for runs of a sweep whose end was found the first time
                rows = known(db)
                for name in [name for name, folder in folders.items() if changed(folder, rows)]:
                    self._ingest(db, folders[name], rows.get(name))
            self._start_waiting(db)

    def _ask_cluster(self, db: sqlite3.Connection) -> None:
        """Have the launcher look after the runs that a cluster was handed and has not begun."""
        for row in db.execute("SELECT id FROM runs WHERE handed").fetchall():
            folder = RunFolder(self.root / row["id"])
            try:
                launcher_of(folder, self.launcher).status(folder)
            except CompressionError as error:
                self._problem(f"run {folder.id} waits: {error}")

    def _folders(self) -> dict[str, RunFolder]:
        paths = [path for path in self.root.iterdir() if not path.name.startswith(".")]
        return {path.name: RunFolder(path) for path in paths if (path / "spec.json").is_file()}

    def _ingest(self, db: sqlite3.Connection, folder: RunFolder, row: sqlite3.Row | None) -> None:
        """Bring one run up to date; a folder that cannot be read changes nothing and is named in ``problems``."""
        db.execute("SAVEPOINT run")
        try:
            seen = size(folder)
            if row is None:
                insert(db, folder)
            events, offset = read_events(folder.events_path, row["offset"] if row else 0)
            record(db, folder, events)
            state = folder.state
            values = (state, state == QUEUED and folder.waits(), offset, seen, folder.id)
            db.execute("UPDATE runs SET state = ?, handed = ?, offset = ?, size = ? WHERE id = ?", values)
        except (CompressionError, KeyError, TypeError, ValueError) as error:
            db.execute("ROLLBACK TO run")
            self._problem(str(error) if isinstance(error, CompressionError) else f"{folder.path} is damaged: {error!r}")
        db.execute("RELEASE run")

    def _start_waiting(self, db: sqlite3.Connection) -> None:
        """Claim and start queued runs within one transaction: no other process can claim the same or pass the slots."""
        while (row := db.execute(CLAIM, (self.slots,)).fetchone()) is not None:
            folder = RunFolder(self.root / row["id"])
            try:
                self.launcher.start(folder, int(folder.spec().get("threads") or self.threads))
                if folder.waits():
                    db.execute("UPDATE runs SET state = 'queued', handed = 1 WHERE id = ?", (folder.id,))
            except (CompressionError, OSError, ValueError) as error:
                db.execute("UPDATE runs SET state = 'queued' WHERE id = ?", (folder.id,))
                self._problem(f"run {folder.id} could not be started: {error}")
                return

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path = self.root / "runs.sqlite"
        try:
            db = sqlite3.connect(path, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:  # new, older, or just deleted
                    use_wal(db, BUSY_MILLISECONDS / 1000)
                    make_tables(db)
                db.execute("PRAGMA synchronous = NORMAL")
                yield db
            finally:
                db.close()
        except sqlite3.OperationalError as error:
            way_out = "choose another with --runs DIR"
            raise CompressionError(f"runs folder {self.root} cannot be written ({error}); {way_out}") from error
        except sqlite3.DatabaseError as error:
            way_out = "delete it, it is rebuilt from the run folders"
            raise CompressionError(f"{path} is damaged ({error}); {way_out}") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connect() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
