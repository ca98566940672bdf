"""Files that somebody else may have written: read within bounds and given their type before anything believes them.

Every format of this project passes through here: budgets, specs, events, results, bundles, packed headers, metadata of
weights. What is malformed is one :class:`CompressionError` naming the file and the field, in bounded time and memory.
"""

from __future__ import annotations

import math
import os
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from typing import Any
from typing import TypeVar

from pydantic import TypeAdapter
from pydantic import ValidationError
from pydantic_core import from_json

from compression.errors import CompressionError

T = TypeVar("T")
MOST_BYTES = 64 << 20
"""The largest JSON file that is read: two orders of magnitude above a result of the largest model tried."""
LARGEST_INTEGER = 2**63 - 1
"""In magnitude. Larger ones fit neither SQLite nor numpy, and no field of a format needs them."""


class _Short(reprlib.Repr):
    """Bounds each level of a value; tells a huge integer by its size (Python refuses to print one)."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = self.maxdict = 2
        self.maxlist = self.maxtuple = self.maxset = 4
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) <= LARGEST_INTEGER else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()


def open_regular(path: str | Path, what: str) -> IO[bytes]:
    """A regular file, opened for reading without waiting for anybody; ``what`` names it in messages.

    Raises:
        FileNotFoundError: there is none.
        CompressionError: it is unreadable, or no regular file (a folder, a pipe, a device: reading one of these could
            wait for ever).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise CompressionError(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CompressionError(f"{what} {path} is no regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path, what: str, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file; ``what`` names it in messages.

    Raises:
        CompressionError: as :func:`open_regular`, or the file is missing, or larger than ``most`` bytes.
    """
    try:
        with open_regular(path, what) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise CompressionError(f"{what} {path}: {error.strerror or error}") from error
    if len(data) > most:
        raise CompressionError(f"{what} {path} is larger than the {most:,} bytes that are read of one")
    return data


def json_value(data: bytes | str, what: str) -> Any:
    """The value of a JSON text: plain lists, dicts, strings, finite floats and integers of at most 64 bits.

    Raises:
        CompressionError: the text is not valid JSON, is nested too deeply, or holds a number that is out of range.
    """
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise CompressionError(f"{what} is not valid JSON: {error}") from error
    _check_numbers(value, what)
    return value


def json_object(data: bytes | str, what: str) -> dict[str, Any]:
    """The value of a JSON text that must be an object.

    Raises:
        CompressionError: as :func:`json_value`, or the value is no object.
    """
    value = json_value(data, what)
    if not isinstance(value, dict):
        raise CompressionError(f"{what} must hold one JSON object")
    return value


def read_object(path: str | Path, what: str, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        CompressionError: as :func:`read_bytes` and :func:`json_object`.
    """
    return json_object(read_bytes(path, what, most), f"{what} {path}")


def typed(kind: TypeAdapter[T], value: Any, what: str) -> T:
    """``value`` as the type of ``kind`` (``TypeAdapter(SomeTypedDict)``, made once at the module's top).

    Raises:
        CompressionError: naming the first field that is wrong, what it may be, and what it is.
    """
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        shown = "" if first["type"] == "missing" else f", not {short(first['input'])}"
        subject = f"{what}: {field}" if field else what
        raise CompressionError(f"{subject}: {first['msg'][:1].lower()}{first['msg'][1:]}{shown}") from error


def short(value: Any) -> str:
    """``repr`` of a value from a file, short enough for a message of one line, whatever its size."""
    text = _SHORT.repr(value)
    return text if len(text) <= 160 else f"{text[:160]}…"


def check_version(value: Mapping[str, Any], known: int, what: str) -> None:
    """Refuse a file of another version by name.

    Raises:
        CompressionError: naming the version of the file and the one that is read here.
    """
    version = value.get("version")
    if version != known or isinstance(version, bool):
        newer = isinstance(version, int) and version > known
        way_out = "open it with the newer release that wrote it" if newer else "put the right file back"
        raise CompressionError(f"{what} has version {short(version)}, this program reads version {known}: {way_out}")


def _check_numbers(value: Any, what: str) -> None:
    """Refuse numbers out of range; the parser has bounded the depth already."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, float) and not math.isfinite(item):
            raise CompressionError(f"{what} holds a number that is out of range")
        elif isinstance(item, int) and abs(item) > LARGEST_INTEGER:
            raise CompressionError(f"{what} holds {short(item)}, which is out of range")
