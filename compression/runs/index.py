"""The tables of the index and how the rows of a run follow its folder."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.points import Point
from compression.reading import json_object
from compression.runs.events import Event
from compression.runs.folder import CANCELLED, LOST, PAUSED, QUEUED, RUNNING, RunFolder
from compression.runs.paths import check_contents

SCHEMA_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, sweep TEXT, runs INTEGER NOT NULL, priority INTEGER NOT NULL,
    method TEXT, model TEXT, data TEXT,
    created REAL NOT NULL, started REAL, ended REAL, step INTEGER, total_steps INTEGER, epoch REAL, phase TEXT,
    error TEXT, budget TEXT NOT NULL, handed INTEGER NOT NULL DEFAULT 0, offset INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS points (
    run TEXT NOT NULL, step INTEGER NOT NULL, phase TEXT NOT NULL, split TEXT NOT NULL, point TEXT NOT NULL,
    PRIMARY KEY (run, step, phase, split));
CREATE INDEX IF NOT EXISTS runs_created ON runs (created DESC);
"""
CLAIM = """
UPDATE runs SET state = 'running' WHERE id = (
    SELECT id FROM runs WHERE state = 'queued' AND NOT handed AND sweep IS NULL
    ORDER BY priority DESC, created, id LIMIT 1)
AND (SELECT count(*) FROM runs WHERE (state = 'running' OR handed) AND sweep IS NULL) < ? RETURNING id
"""
"""Take the next run that waits here; one ``handed`` to a cluster waits there, and counts among the running ones."""


BUSY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))


@dataclass(frozen=True)
class RunInfo:
    """One row of the list of runs. ``runs`` counts the runs of a sweep (0: an ordinary run); times are in seconds.

    Of the runs that wait, those of the highest ``priority`` start first, among equals the oldest.
    """

    id: str
    state: str
    sweep: str | None
    runs: int
    priority: int
    method: str
    model: str
    data: str
    created: float
    started: float | None
    ended: float | None
    step: int | None
    total_steps: int | None
    epoch: float | None
    phase: str | None
    error: str | None
    budget: dict[str, Any]


UNREADABLE = (CompressionError, OSError)
"""What reading the files of one run may end in; the others are read all the same."""


def use_wal(db: sqlite3.Connection, seconds: float) -> None:
    """Switch the file to a write-ahead log; SQLite does not wait for others on its own here, so it is tried again."""
    until = time.monotonic() + seconds
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)


def make_tables(db: sqlite3.Connection) -> None:
    """(Re)build an empty index: one of another version holds nothing that the folders do not."""
    db.execute("BEGIN IMMEDIATE")
    if db.execute("PRAGMA user_version").fetchone()[0] not in (0, SCHEMA_VERSION):
        db.execute("DROP TABLE IF EXISTS runs")
        db.execute("DROP TABLE IF EXISTS points")
    for statement in _SCHEMA.split(";")[:-1]:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def info(row: sqlite3.Row) -> RunInfo:
    """A row of ``SELECT * FROM runs``."""
    values = {field.name: row[field.name] for field in dataclasses.fields(RunInfo)}
    return RunInfo(**{**values, "budget": _stored(values["budget"])})


def point(row: sqlite3.Row) -> Point:
    """The point of a row of ``SELECT point FROM points``."""
    return Point.from_dict(_stored(row["point"]))


def _stored(text: str) -> dict[str, Any]:
    """A JSON object from a row of the index.

    Raises:
        CompressionError: the row is damaged.
    """
    return json_object(text, "damaged row of runs.sqlite (delete that file, it is rebuilt)")


def known(db: sqlite3.Connection) -> dict[str, sqlite3.Row]:
    """What the index holds of each run, as far as needed to see whether it is out of date."""
    return {row["id"]: row for row in db.execute("SELECT id, state, sweep, handed, offset, size FROM runs")}


def size(folder: RunFolder) -> int:
    """Bytes of events so far."""
    try:
        return folder.events_path.lstat().st_size
    except FileNotFoundError:
        return 0


def work_to_do(folders: dict[str, RunFolder], rows: dict[str, sqlite3.Row], slots: int) -> bool:
    """Is anything out of date, or a run waiting while a slot is free?"""
    if folders.keys() != rows.keys() or any(changed(folder, rows) for folder in folders.values()):
        return True
    states = [RUNNING if row["handed"] else row["state"] for row in rows.values() if row["sweep"] is None]
    return QUEUED in states and states.count(RUNNING) < slots


def changed(folder: RunFolder, rows: dict[str, sqlite3.Row]) -> bool:
    """May the row of this run be out of date? Decided without reading its events; what cannot be read may be."""
    try:
        return _differs(folder, rows)
    except UNREADABLE:  # damaged, or deleted at this moment: whoever opens it reports which
        return True


def _differs(folder: RunFolder, rows: dict[str, sqlite3.Row]) -> bool:
    row = rows.get(folder.id)
    if row is None or size(folder) != row["size"]:
        return True
    if row["handed"]:
        return not folder.waits() or folder.state != QUEUED
    if row["state"] == RUNNING:
        return not folder.alive()
    if row["size"] == 0 and not folder.process_path.exists():
        return bool(row["state"] != _before_begin(folder, row, rows))
    asks = (folder.process_path, folder.cancel_path, folder.pause_path)
    return row["state"] == QUEUED and any(path.exists() for path in asks)


def _before_begin(folder: RunFolder, row: sqlite3.Row, rows: dict[str, sqlite3.Row]) -> str:
    """The state of a run that no process has taken, as :attr:`RunFolder.state` returns it."""
    if folder.cancel_path.exists():
        return CANCELLED
    if row["sweep"] is None:
        return PAUSED if folder.pause_path.exists() else QUEUED
    sweep = rows[row["sweep"]]["state"] if row["sweep"] in rows else LOST
    return QUEUED if sweep in (QUEUED, RUNNING) else sweep if sweep in (CANCELLED, PAUSED) else LOST


def insert(db: sqlite3.Connection, folder: RunFolder) -> None:
    """A fresh row for a run, without its events.

    Raises:
        CompressionError: the run's folder is not its own, or its spec holds what no run can have.
    """
    check_contents(folder.path)
    spec = folder.spec()
    budget = {**Budget().to_dict(), **spec["budget"]}
    named = (budget["method"], budget["model"], budget["data"])
    about = (spec.get("priority", 0), *named, spec["created"], json.dumps(budget))
    values = (folder.id, QUEUED, spec.get("sweep"), len(folder.child_ids()), *about)
    names = "id, state, sweep, runs, priority, method, model, data, created, budget"
    db.execute(f"INSERT OR REPLACE INTO runs ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    db.execute("DELETE FROM points WHERE run = ?", (folder.id,))


def record(db: sqlite3.Connection, folder: RunFolder, events: list[Event]) -> None:
    """Fold new events into the row of the run and its points; a repeated step replaces what was there."""
    changes: dict[str, Any] = {}
    for event in events:
        changes |= {"step": event["step"], "epoch": event["epoch"]}
        if event["kind"] == "state":
            begins = event["state"] in (RUNNING, QUEUED)
            changes |= {"ended": None if begins else event["t"], "error": event.get("error")}
            changes |= {"started": event["t"]} if event["state"] == RUNNING else {}
        elif event["kind"] in ("plan", "phase"):
            name = "total_steps" if event["kind"] == "plan" else "phase"
            changes[name] = event[name]
        elif event["kind"] == "point":
            key = (event["step"], event["phase"], event["split"])
            point = json.dumps(Point.from_dict(event).to_dict())
            db.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)", (folder.id, *key, point))
    if changes:
        setting = ", ".join(f"{name} = ?" for name in changes)
        db.execute(f"UPDATE runs SET {setting} WHERE id = ?", (*changes.values(), folder.id))
