"""The file of the index, ``runs.sqlite``, or the same tables in memory while that file cannot be written.

A full disk, a folder without inodes and a read-only folder must still be listed and cleared; memory takes no space
there. A database in memory belongs to this process alone, so that nothing may be started by it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from compression.errors import CompressionError
from compression.runs.files import written_in
from compression.runs.index import BUSY, SCHEMA_VERSION, make_tables, use_wal

FILE = "runs.sqlite"
BUSY_MILLISECONDS = 30_000
"""How long to wait for another process that writes: handing a run to a cluster takes it up to several seconds."""
_UNWRITABLE = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
                         sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS))  # fmt: skip
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR))  # ERROR: foreign tables


class Unwritable(CompressionError):
    """The file of the index cannot be written now; the message is the reason."""


class Database:
    """The index below ``root``; shared by the threads of a process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / FILE
        self._memory: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def file(self) -> Iterator[sqlite3.Connection]:
        """The file, created where there is none.

        Raises:
            Unwritable: the disk is full, or the folder is read-only or no place for such a file.
            CompressionError: the file is damaged, or another process has locked it for half a minute.
        """
        self._check_own()
        try:
            db = sqlite3.connect(self._path, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None)
            with contextlib.closing(db):
                _prepare(db)
                yield db
        except sqlite3.DatabaseError as error:
            refusal = self._refusal(error)
            raise refusal from (None if refusal is error else error)

    @contextlib.contextmanager
    def memory(self) -> Iterator[sqlite3.Connection]:
        """The same tables in memory, filled from the folders once and then reused; one thread at a time."""
        with self._lock:
            if self._memory is None:
                self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                _prepare(self._memory)
            yield self._memory

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While the ``with`` block runs, no other process changes the index; without its file, its folder is locked."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(transaction(stack.enter_context(self.file())))
            except Unwritable:
                stack.enter_context(_locked(self._root))
            yield

    def _check_own(self) -> None:
        """Refuse an index that is any link or no plain file: SQLite would write into what it points at."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            path = f"{self._path}{suffix}"
            try:
                status = os.lstat(path)
            except OSError:
                continue  # opening the file says what is wrong with the folder
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise Unwritable(f"{path} is no plain file; remove it")

    def _refusal(self, error: sqlite3.DatabaseError) -> Exception:
        """What an error of SQLite says of the file; one that is not the file's fault stays as it is."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _UNWRITABLE:
            return Unwritable(f"runs folder {self._root} cannot be written ({error})")
        if code in BUSY:
            return CompressionError(f"{self._path} is in use by another process ({error}): try again")
        if code in _DAMAGED:
            way_out = "delete it, it is rebuilt from the run folders"
            return CompressionError(f"{self._path} is damaged ({error}); {way_out}")
        return error


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Everything in the ``with`` block, or nothing; others that write wait."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    except BaseException:
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk has ended it already
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _prepare(db: sqlite3.Connection) -> None:
    db.row_factory = sqlite3.Row
    if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:  # new, older, or just deleted
        use_wal(db, BUSY_MILLISECONDS / 1000)
        make_tables(db)
    if db.execute("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():  # none of ours
        raise CompressionError("runs.sqlite holds triggers or views, which would change what is written: remove it")
    db.execute("PRAGMA synchronous = NORMAL")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which takes no space and no right to write."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with written_in(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
