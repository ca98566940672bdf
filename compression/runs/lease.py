"""The right to write to a run folder: one attempt holds it, and looks before every write whether it still does.

Whether the process of an earlier attempt has ended can only be guessed from another machine: it may have been stopped,
or cut off, and may wake up at any time. Therefore the guess decides nothing. Each attempt takes the next number by
creating ``lease.<number>``, which the file system grants to one process only, and names itself in ``process.json``. A
process that finds the next number taken, or itself no longer named, has lost the run and stops. What it could still
write between that look and the write carries its old number, which readers skip
(see :func:`compression.runs.events.read_events`).
"""

from __future__ import annotations

import os
from pathlib import Path

from compression.errors import CompressionError, Superseded
from compression.reading import LARGEST_INTEGER
from compression.runs.paths import remove
from compression.runs.process import Handle

_NAME = "lease."


class Lease:
    """The right of process ``handle`` to write to the run folder ``path`` as attempt number ``attempt``.

    ``process_path`` is the ``process.json`` that must continue to name ``handle``.
    """

    def __init__(self, path: Path, process_path: Path, handle: Handle, attempt: int) -> None:
        self.handle = handle
        self.attempt = attempt
        self._run = path.name
        self._process_path = process_path
        self._next = _path(path, attempt + 1)
        self._known: tuple[int, int, int] | None = None

    @classmethod
    def take(cls, path: Path, process_path: Path, handle: Handle, *, after: int) -> Lease:
        """Take the next attempt at the run: above ``after``, the attempts in its events, and every lease.

        Raises:
            CompressionError: a lease or an event claims more attempts than can be.
        OSError: the folder cannot be written.
        """
        earlier = taken(path)
        attempt = max([after, *earlier]) + 1
        while attempt < LARGEST_INTEGER and not _create(_path(path, attempt)):
            attempt += 1
        if attempt >= LARGEST_INTEGER:
            raise CompressionError(f"run {path.name} claims {attempt} attempts, more than any had: start a new run")
        handle.save(process_path)
        for number in earlier:
            remove(_path(path, number))
        return cls(path, process_path, handle, attempt)

    def check(self) -> None:
        """Does nothing while the run is still that of this attempt; costs two looks at file attributes.

        Raises:
            Superseded: another attempt has taken it over, or it was put back into the queue or deleted.
        """
        if self._next.exists() or not self._is_named():
            raise Superseded(
                f"run {self._run} was taken over from attempt {self.attempt}, process {self.handle.pid} on "
                f"{self.handle.host}: this process writes nothing more"
            )

    def _is_named(self) -> bool:
        """Does ``process.json`` name this process? What cannot be read does not; it is read again when it changes."""
        try:
            status = os.stat(self._process_path)
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._known:
                if not Handle.load(self._process_path).is_process_of(self.handle):
                    return False
                self._known = version
        except (OSError, CompressionError):
            return False
        return True


def taken(path: Path) -> list[int]:
    """The numbers of the leases in a run folder."""
    names = (each.name.removeprefix(_NAME) for each in path.glob(f"{_NAME}*"))
    return sorted(int(name) for name in names if name.isdecimal())


def _path(path: Path, attempt: int) -> Path:
    return path / f"{_NAME}{attempt}"


def _create(path: Path) -> bool:
    """Create the file; False when it exists already."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    return True
