"""Small files written whole or not at all, JSON that every reader accepts, and what a disk that refuses means."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.runs.paths import create_fresh


def finite(value: Any) -> Any:
    """Plain JSON values of ``value``: NaN and infinities become None (JSON has no word for them), tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes, int)):
        return finite(value.item())
    return value


def write_atomic(path: Path, text: str) -> None:
    """Write beside the target, then move into place: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is then untouched.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """:func:`write_atomic` for bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with create_fresh(temporary) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON, atomically."""
    write_atomic(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def written_in(root: str | Path) -> Iterator[None]:
    """What the disk of a runs folder refuses in the ``with`` block becomes one line.

    Raises:
        CompressionError: the folder cannot be written, or its disk is full, with what to do about it.
    """
    try:
        yield
    except OSError as error:
        raise CompressionError(unwritable(root, error)) from error


def unwritable(root: str | Path, error: OSError) -> str:
    """One line for a runs folder that cannot be written, with what to do about it."""
    if disk_full(error):
        way_out = "`delete RUN` removes runs you no longer need, or choose another folder with --runs DIR"
        return f"no space left on the disk of runs folder {root}; {way_out}"
    return f"runs folder {root} cannot be written: {error.strerror or error}; choose another with --runs DIR"


def disk_full(error: BaseException | None) -> bool:
    """Was it a full disk (or quota)? Libraries that wrap the error are looked through."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
