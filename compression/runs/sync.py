"""One look at all run folders: the index brought up to date with them, and what waits started while a slot is free.

Each run fails alone: a folder that cannot be read is named, and the others are read all the same.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from compression.errors import CompressionError
from compression.runs.database import transaction
from compression.runs.events import read_events
from compression.runs.folder import QUEUED, RunFolder
from compression.runs.index import CLAIM, UNREADABLE, changed, insert, known, record, size, work_to_do
from compression.runs.launch_config import launcher_of
from compression.runs.launcher import Launcher
from compression.runs.paths import run_folders

AGAIN_SECONDS = 10.0
"""Until a folder that could not be read, and looks as it did then, is read again: its events may be long."""
STUCK = "stuck"
"""The state, within one look, of a run whose folder does not let it start."""

Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass
class Unreadable:
    """Folders that could not be read, so that not every look takes as long as the first one."""

    seen: dict[str, tuple[Stamp, float, str]] = field(default_factory=dict)

    def add(self, folder: RunFolder, message: str) -> None:
        """Remember why this folder could not be read."""
        self.seen[folder.id] = (_stamp(folder), time.monotonic(), message)

    def message(self, folder: RunFolder) -> str | None:
        """Why it could not be read a moment ago; None when it is to be read."""
        known = self.seen.get(folder.id)
        if known is None:
            return None
        stamp, moment, message = known
        if stamp == _stamp(folder) and time.monotonic() - moment < AGAIN_SECONDS:
            return message
        self.seen.pop(folder.id, None)  # another thread may have been first
        return None


@dataclass
class Sync:
    """One look at the runs below ``root``, over an open index; ``problems`` names what cannot be read or started.

    ``launcher`` starts what waits; None: nothing is started, and no cluster is queried.
    """

    db: sqlite3.Connection
    root: Path
    launcher: Launcher | None
    slots: int
    threads: int
    unreadable: Unreadable
    problems: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Do it; others that write wait only where there is something to write."""
        folders = self._folders()
        if self.launcher is not None:
            self._ask_cluster(folders, self.launcher)
        if not work_to_do(folders, self._known(), self.slots if self.launcher else 0):
            return
        with transaction(self.db):
            folders = self._folders()  # looked at again: another process may have added to them
            for name in self._known().keys() - folders.keys():
                self.db.execute("DELETE FROM runs WHERE id = ?", (name,))
                self.db.execute("DELETE FROM points WHERE run = ?", (name,))
            for _ in range(2):  # the second time for runs of a sweep whose end was seen the first time
                rows = self._known()
                for name in [name for name, folder in folders.items() if changed(folder, rows)]:
                    self._ingest(folders[name], rows.get(name))
            if self.launcher is not None:
                self._start_waiting(self.launcher)
            self.problems = list(dict.fromkeys(self.problems))

    def _folders(self) -> dict[str, RunFolder]:
        """The runs that are to be looked at; those that are none, or were unreadable just now, are problems."""
        paths, problems = run_folders(self.root)
        folders = {name: RunFolder(path) for name, path in paths.items()}
        self._skipped = {name: text for name in folders if (text := self.unreadable.message(folders[name]))}
        self.problems += [*problems.values(), *self._skipped.values()]
        return {name: folder for name, folder in folders.items() if name not in self._skipped}

    def _known(self) -> dict[str, sqlite3.Row]:
        """The rows of the index, without those of the folders that are passed over."""
        return {name: row for name, row in known(self.db).items() if name not in self._skipped}

    def _ask_cluster(self, folders: dict[str, RunFolder], launcher: Launcher) -> None:
        """Have the launcher look after the runs that a cluster was handed and has not begun."""
        for row in self.db.execute("SELECT id FROM runs WHERE handed").fetchall():
            folder = folders.get(row["id"])
            if folder is None:
                continue
            try:
                launcher_of(folder, launcher).status(folder)
            except UNREADABLE as error:
                self.problems.append(f"run {folder.id} waits: {reason(error)}")

    def _ingest(self, folder: RunFolder, row: sqlite3.Row | None) -> None:
        """Bring one run up to date; a folder that cannot be read changes nothing."""
        self.db.execute("SAVEPOINT run")
        try:
            seen = size(folder)
            if row is None:
                insert(self.db, folder)
            events, offset = read_events(folder.events_path, row["offset"] if row else 0)
            record(self.db, folder, events)
            state = folder.state
            values = (state, state == QUEUED and folder.waits(), offset, seen, folder.id)
            self.db.execute("UPDATE runs SET state = ?, handed = ?, offset = ?, size = ? WHERE id = ?", values)
        except UNREADABLE as error:
            self.db.execute("ROLLBACK TO run")
            message = f"run {folder.id} cannot be read: {reason(error)}"
            self.unreadable.add(folder, message)
            self.problems.append(message)
        self.db.execute("RELEASE run")

    def _start_waiting(self, launcher: Launcher) -> None:
        """Claim and start queued runs within one transaction: no other process can claim the same or pass the slots."""
        while (row := self.db.execute(CLAIM, (self.slots,)).fetchone()) is not None:
            if not self._start(RunFolder(self.root / row["id"]), launcher):
                break
        self.db.execute("UPDATE runs SET state = 'queued' WHERE state = ?", (STUCK,))

    def _start(self, folder: RunFolder, launcher: Launcher) -> bool:
        """Start one run, or pass over a folder that does not let it; False when the launcher starts none now."""
        try:
            threads = int(RunFolder.open(self.root, folder.id).spec().get("threads") or self.threads)
        except UNREADABLE as error:
            self.db.execute("UPDATE runs SET state = ? WHERE id = ?", (STUCK, folder.id))
            self.problems.append(f"run {folder.id} could not be started: {reason(error)}")
            return True
        try:
            launcher.start(folder, threads)
            if folder.waits():
                self.db.execute("UPDATE runs SET state = 'queued', handed = 1 WHERE id = ?", (folder.id,))
        except (CompressionError, OSError, ValueError) as error:
            self.db.execute("UPDATE runs SET state = 'queued' WHERE id = ?", (folder.id,))
            self.problems.append(f"run {folder.id} could not be started: {error}")
            return False
        return True


def reason(error: Exception) -> str:
    """Why the files of a run cannot be read, in one line."""
    return str(error) if isinstance(error, CompressionError) else f"its files are damaged ({error!r})"


def _stamp(folder: RunFolder) -> Stamp:
    """What changes when a folder is mended: number, size and time of its files."""
    return tuple(_status(path) for path in (folder.path, folder.spec_path, folder.events_path, folder.process_path))


def _status(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
