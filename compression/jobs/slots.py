"""Slots for the jobs beside runs: a few run at a time in one runs folder, the others wait in the order they came.

Each job holds a lock on a ticket file, which ends with its process however that ends, so that no slot is lost.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from compression.errors import CompressionError
from compression.runs.folder import RunFolder
from compression.runs.gallery import COPIES

JOBS = "COMPRESSION_JOBS"
USUAL_JOBS = 2
MOST_WAITING = 20
_FOLDER, _LOCK = ".jobs", "lock"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # some network file systems: nobody waits there


def slots() -> int:
    """How many such jobs go at a time.

    Raises:
        CompressionError: COMPRESSION_JOBS is no number of at least 1.
    """
    named = os.environ.get(JOBS, str(USUAL_JOBS))
    if not (named.isascii() and named.isdecimal() and len(named) < 9 and int(named)):
        raise CompressionError(f"{JOBS} must be a whole number of at least 1, not {named!r}")
    return int(named)


def check(folder: RunFolder) -> None:
    """Refuse one more job where too many wait already.

    Raises:
        CompressionError: saying so, or that COMPRESSION_JOBS is no number.
    """
    waiting = len(_live(_place(folder))) - slots()
    if waiting >= MOST_WAITING:
        raise CompressionError(f"{waiting} jobs wait for their turn already: try again when some of them have ended")


@contextlib.contextmanager
def ticket(folder: RunFolder) -> Iterator[Ticket | None]:
    """A place in the line, given back at the end of the block; none on a file system without locks."""
    place = _place(folder)
    try:
        place.mkdir(exist_ok=True)
        with (place / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            number = max((int(path.name) for path in _tickets(place)), default=0) + 1
            fresh, path = place / f".{os.getpid()}", place / f"{number:012d}"
            file = os.open(fresh, os.O_CREAT | os.O_RDWR)
            fcntl.flock(file, fcntl.LOCK_EX)
            fresh.rename(path)  # seen by others only with its lock
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        yield None
        return
    try:
        yield Ticket(path, file)
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


class Ticket:
    """A place in the line: the file, and its locked descriptor."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self.file = file

    def ahead(self) -> int:
        """How many jobs have to end before this one's turn."""
        before = sum(path.name < self.path.name for path in _live(self.path.parent, self.path))
        return max(0, before - slots() + 1)


def _place(folder: RunFolder) -> Path:
    root = folder.path.resolve().parent
    return (root.parent if root.name == COPIES else root) / _FOLDER


def _tickets(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.name.isdecimal()) if place.is_dir() else []


def _live(place: Path, own: Path | None = None) -> list[Path]:
    """The tickets whose process lives; those of others are taken away."""
    return [path for path in _tickets(place) if path == own or _locked(path)]


def _locked(path: Path) -> bool:
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
