"""Small files written whole or not at all, JSON that every reader accepts, and what a disk that refuses means."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression.errors import CompressionError


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
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


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Read one JSON object; ``what`` names the file in messages.

    Raises:
        CompressionError: the file is missing, unreadable, no JSON object or of another version of the format.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CompressionError(f"{what} {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CompressionError(f"{what} {path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CompressionError(f"{what} {path} must hold one JSON object")
    return value


def check_version(value: Mapping[str, Any], known: int, what: str) -> None:
    """Refuse a file of another version by name.

    Raises:
        CompressionError: naming the version found and the one read here.
    """
    found = value.get("version")
    if found != known:
        newer = isinstance(found, int) and found > known
        way_out = "open it with the newer release that wrote it" if newer else "put the right file back"
        raise CompressionError(f"{what} has version {found!r}, this program reads version {known}: {way_out}")


def unwritable(root: str | Path, error: OSError) -> str:
    """One line for a runs folder that cannot be written, with what to do about it."""
    if disk_full(error):
        return f"no space left on the disk of runs folder {root}; free some, or choose another with --runs DIR"
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
