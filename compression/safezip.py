"""The directory of a zip file: checked within bounds before a library that reads the whole of it sees the file."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import IO

from compression.errors import CompressionError
from compression.reading import open_regular

MOST_ENTRIES, MOST_DIRECTORY = 60_000, 16 << 20  # bytes; a network of 2,000 tensors has 200 KB
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")  # before the end: where the end record of large archives lies, which torch writes
_LARGE = struct.Struct("<4sQ2H2L4Q")


def entries(path: str | Path, what: str) -> dict[str, zipfile.ZipInfo]:
    """The entries of an archive by name; inflated, they are no larger than the file.

    Raises:
        CompressionError: not readable, truncated, a directory larger than any network's, or an archive that inflates.
    """
    try:
        with open_regular(path, what) as file:
            length = os.fstat(file.fileno()).st_size
            _check_end(file, length)
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
    except (OSError, ValueError, NotImplementedError, struct.error, zipfile.BadZipFile) as error:
        raise CompressionError(f"{what} {path} cannot be read: {error}") from error
    if sum(info.file_size for info in infos) > length:
        raise CompressionError(f"{what} {path} cannot be read as plain weights: it is larger than its tensors")
    return {info.filename: info for info in infos}


def _check_end(file: IO[bytes], length: int) -> None:
    """Refuse a directory that is larger than any network's, by both of the records that may state its size."""
    file.seek(max(0, length - _END.size))
    mark, *_, count, size, _, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or comment:
        raise zipfile.BadZipFile("it does not end as a zip does")
    stated = [(count, size)]
    file.seek(max(0, length - _END.size - _LOCATOR.size))
    mark, _, place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if mark == b"PK\6\7":
        file.seek(min(place, length))
        *_, count, size, _ = _LARGE.unpack(file.read(_LARGE.size))
        stated = [(count, size), *(pair for pair in stated if pair != (0xFFFF, 0xFFFFFFFF))]
    if any(count > MOST_ENTRIES or size > MOST_DIRECTORY for count, size in stated):
        raise zipfile.BadZipFile("its directory is larger than that of any network")
