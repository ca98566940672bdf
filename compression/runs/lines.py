"""Lines of a file that grows, read within bounds: from a byte on, or from its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from compression.errors import CompressionError
from compression.reading import open_regular

MOST_BYTES = 128 << 20
"""The largest file of events that is read: more than a week of training at one event a second."""
LONGEST_LINE = 8 << 20
BLOCK_BYTES = 64 << 10


def opened(path: str | Path, offset: int = 0) -> IO[bytes]:
    """A file of events at a byte, when not too much is to be read from there on.

    Raises:
        MissingFile: there is none.
        CompressionError: it is no plain file, or holds more than 128 MB.
    """
    stream = open_regular(path, "events file")
    if os.fstat(stream.fileno()).st_size - offset > MOST_BYTES:
        stream.close()
        raise CompressionError(f"events file {path} is larger than the {MOST_BYTES:,} bytes that are read of one")
    stream.seek(offset)
    return stream


def forwards(path: str | Path, offset: int = 0) -> Iterator[bytes]:
    """The whole lines from a byte on, each with its end; a last one without its end is left.

    Raises:
        MissingFile, CompressionError: as :func:`opened`, or a line is longer than 8 MB.
    """
    with opened(path, offset) as stream:
        while (line := stream.readline(LONGEST_LINE)).endswith(b"\n"):
            yield line
    _check_length(line, path)


def backwards(path: str | Path, marker: bytes, before: int | None = None) -> Iterator[bytes]:
    """The whole lines that hold ``marker``, from the last to the first, read in blocks.

    ``before`` is the byte at which a line begins that is not read any more, the end of the file otherwise.

    Raises:
        MissingFile, CompressionError: as :func:`forwards`.
    """
    with opened(path) as stream:
        end = stream.seek(0, os.SEEK_END)
        position, start, torn = end if before is None else min(before, end), b"", True
        while position:
            size = min(BLOCK_BYTES, position)
            position -= size
            stream.seek(position)
            start, newline, rest = (stream.read(size) + start).partition(b"\n")
            if torn and newline:  # what follows the last end of a line is passed over
                rest, torn = rest[: rest.rfind(b"\n") + 1], False
            if marker in rest:
                yield from (line for line in reversed(rest.split(b"\n")) if marker in line)
            _check_length(start, path)
        if marker in start and not torn:
            yield start


def _check_length(line: bytes, path: str | Path) -> None:
    if len(line) >= LONGEST_LINE:
        raise CompressionError(f"events file {path} has a line of more than {LONGEST_LINE:,} bytes: it is damaged")
