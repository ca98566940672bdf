"""What belongs to a runs folder: the one place that decides which names and files are a run's own.

A run is a real folder directly below the runs folder, with plain files only: no links, no pipes, no devices.
Whatever is named in a file (the runs of a sweep, the sweep of a run) passes through here, so that nothing outside the
runs folder is read, written, renamed or removed, whoever wrote the file.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import stat
from io import BufferedWriter
from pathlib import Path
from typing import IO

from compression.errors import CompressionError
from compression.reading import short

RESERVED = ("studies", "uploads")
"""Folders beside the runs that are none: background studies and uploaded weights."""
SPEC = "spec.json"
MOST_ENTRIES = 10_000
REMOVED = ".deleted-"
"""Begins the name of a folder that is being removed: no run has such a name."""
RUN_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"  # longer names are none of ours, and no file system takes them
_OWN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def is_run_id(name: object) -> bool:
    """Can this be the name of a run: one path component of plain characters, not reserved?"""
    return isinstance(name, str) and re.fullmatch(RUN_ID, name) is not None and name not in RESERVED


def check_folder(path: Path) -> None:
    """Check that this is a run of the folder it lies in: a real folder with a spec of its own.

    Raises:
        FileNotFoundError: there is no such folder, or one without a spec.
        CompressionError: it is a link, its name or its spec is impossible, or it cannot be looked into.
    """
    try:
        kind = os.lstat(path).st_mode
        if stat.S_ISLNK(kind) and os.path.lexists(path / SPEC):
            raise CompressionError(f"run {short(path.name)} is a link; move the folder itself to {path.parent}")
        if not stat.S_ISDIR(kind):
            raise FileNotFoundError(path)
        spec = os.lstat(path / SPEC).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise CompressionError(f"run {short(path.name)} cannot be read: {error.strerror or error}") from error
    if not is_run_id(path.name):
        raise CompressionError(f"{short(path.name)} is no name of a run: rename its folder in {path.parent}")
    if not stat.S_ISREG(spec):
        raise CompressionError(f"{SPEC} of run {path.name} is {_kind(spec)}, not a file; put the file back")


def check_contents(path: Path) -> None:
    """Check that a run's folder holds only folders and plain files.

    Raises:
        CompressionError: naming a link, pipe or device in it, or that there are more than 10,000 entries.
    """
    pending, count = [path], 0
    while pending:
        for entry in _entries(pending.pop(), path.name):
            count += 1
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                name, kind = short(os.path.relpath(entry.path, path)), _kind(os.lstat(entry.path).st_mode)
                raise CompressionError(f"{name} of run {path.name} is {kind}; put a file of its own in its place")
        if count > MOST_ENTRIES:
            raise CompressionError(f"run {path.name} holds more than {MOST_ENTRIES:,} files: no run writes so many")


def _entries(path: Path, run: str) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where it was moved away meanwhile."""
    try:
        with os.scandir(path) as entries:
            return list(itertools.islice(entries, MOST_ENTRIES + 1))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CompressionError(f"run {run} cannot be read: {error.strerror or error}") from error


def run_folders(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The runs directly below ``root`` by id, and why other folders that look like runs are none.

    Raises:
        CompressionError: ``root`` itself cannot be read.
    """
    runs: dict[str, Path] = {}
    problems: dict[str, str] = {}
    try:
        with os.scandir(root) as entries:
            candidates = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in RESERVED]
    except OSError as error:
        raise CompressionError(f"runs folder {root} cannot be read: {error.strerror or error}") from error
    for entry in candidates:
        if entry.is_file(follow_symlinks=False):
            continue
        path = root / entry.name
        try:
            check_folder(path)
            runs[entry.name] = path
        except FileNotFoundError:
            continue
        except CompressionError as error:
            problems[entry.name] = str(error)
    return runs, problems


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a run's own plain file; never waits.

    Raises:
        CompressionError: a link, a pipe, a device, or a file that has another name elsewhere (a hard link).
        OSError: the folder cannot be written.
    """
    try:
        descriptor = os.open(path, flags | _OWN_FLAGS, 0o666)
    except OSError as error:
        kind = os.lstat(path).st_mode if os.path.lexists(path) else stat.S_IFREG
        if stat.S_ISREG(kind):
            raise
        raise CompressionError(f"{path} is {_kind(kind)}, not a file of the run: remove it") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        kind_words = "a hard link" if stat.S_ISREG(status.st_mode) else _kind(status.st_mode)
        raise CompressionError(f"{path} is {kind_words}, not a file of the run: put a copy there, or remove it")
    return descriptor


def append_to(path: Path) -> IO[bytes]:
    """A run's own file, opened to be added to; see :func:`open_own`."""
    return os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


def create_fresh(path: Path) -> BufferedWriter:
    """A new file to be written, in place of whatever had its name (a link is removed, not followed)."""
    path.unlink(missing_ok=True)
    return os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def touch(path: Path) -> None:
    """Create a run's own file, or set its time to now; see :func:`open_own`."""
    descriptor = open_own(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder of a run's own where there is none.

    Raises:
        CompressionError: a link or a file is in its place.
    """
    try:
        path.mkdir()
    except FileExistsError as error:
        kind = os.lstat(path).st_mode
        if not stat.S_ISDIR(kind):
            raise CompressionError(f"{path} is {_kind(kind)}, not a folder of the run: remove it") from error


def set_aside(path: Path) -> Path:
    """Rename a run's folder, so that it is no run any more; returns what is to be removed.

    On a disk too full for the new name the folder itself is returned.

    Raises:
        OSError: it cannot be renamed for another reason.
    """
    target = path.with_name(REMOVED + path.name)
    remove(target)
    try:
        os.rename(path, target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return path
    return target


def remove(path: Path) -> None:
    """Remove a folder with all it holds; a link is removed itself, and links inside are not followed.

    Raises:
        OSError: it cannot be removed.
    """
    while os.path.lexists(path):
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:  # another process that removes it was there first
            continue


def _kind(mode: int) -> str:
    """What a file is, in words."""
    names = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFREG: "a file"}
    return names.get(stat.S_IFMT(mode), "a device or socket")
