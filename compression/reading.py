"""Untrusted files: read within bounds and validated before use.

Every format of this project is read here: budgets, specs, events, results, bundles, packed headers, metadata of
weights. Malformed input raises one :class:`CompressionError` naming the file and the field, in bounded time and memory.
"""

from __future__ import annotations

import math
import os
import reprlib
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn, TypeVar

from pydantic import Field, PlainValidator, Strict, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, from_json

from compression.errors import CompressionError

T = TypeVar("T")
MOST_BYTES = 64 << 20
"""The largest JSON file that is read: two orders of magnitude above a result of the largest model tried."""
MOST_VALUES = 2_500_000
"""Bounds the memory of a parsed JSON text (an empty list takes 24 times its text): two confusions of 1,000 classes."""
MOST_DEPTH = 200
NAMES = 8  # of a list in a message
LARGEST_INTEGER = 2**63 - 1
"""In magnitude. SQLite and numpy store no larger ones, and no field of a format needs them."""
LATEST_SECONDS = 1e11
"""Since 1970: Python cannot format much later moments (year 5000) as a date."""


class MissingFile(CompressionError):
    """There is no such file."""


class NotJson(CompressionError):
    """The text is not JSON, or is nested too deeply to be read as JSON."""


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that fits into 64 bits; booleans are not numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= LARGEST_INTEGER


def _number(value: Any) -> Any:
    if not is_number(value):
        raise PydanticCustomError("number", "must be a finite number")
    return value


def _measured(value: Any) -> Any:
    return None if value is None else _number(value)


def _seconds(value: Any) -> Any:
    if not is_number(value) or not 0 <= value <= LATEST_SECONDS:
        raise PydanticCustomError("seconds", "must be a time in seconds since 1970")
    return value


Whole = Annotated[int, Strict(), Field(ge=0, le=LARGEST_INTEGER)]
"""A whole number of at least 0 and at most 63 bits."""
Signed = Annotated[int, Strict(), Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]
Number = Annotated[float, PlainValidator(_number)]
"""A finite number, integers included, unchanged."""
Measured = Annotated[float, PlainValidator(_measured)]
"""A finite number, or null, which stands for NaN and infinities in this project's JSON."""
Seconds = Annotated[float, PlainValidator(_seconds)]
"""A moment, in seconds since 1970."""
Text = Annotated[str, Strict()]
Name = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=4096)]
Flag = Annotated[bool, Strict()]


class _Short(reprlib.Repr):
    """Bounds each level of a value; shows a huge integer by its size (Python refuses to print one)."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = self.maxdict = 2
        self.maxlist = self.maxtuple = self.maxset = 4
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) <= LARGEST_INTEGER else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()


def expanded(path: str | Path) -> Path:
    """A path with its home folder expanded (``~/``, ``~user/``); unchanged where there is no such user."""
    return Path(os.path.expanduser(path))


def open_regular(path: str | Path, what: str) -> IO[bytes]:
    """A regular file, opened for reading without blocking; ``what`` names it in messages.

    Raises:
        MissingFile: there is none.
        CompressionError: it is unreadable, or not a regular file (a folder, a pipe, a device: reading these could
            block for ever).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise MissingFile(f"{what} {path}: {error.strerror}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise CompressionError(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CompressionError(f"{what} {path} is no regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path, what: str, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file; ``what`` names it in messages.

    Raises:
        MissingFile: there is none.
        CompressionError: as :func:`open_regular`, or it is larger than ``most`` bytes.
    """
    try:
        with open_regular(path, what) as file:
            data = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
    except OSError as error:
        raise CompressionError(f"{what} {path}: {error.strerror or error}") from error
    if len(data) > most:
        raise CompressionError(f"{what} {path} is larger than the {most:,} bytes that are read of one")
    return data


def json_value(data: bytes | str, what: str) -> Any:
    """The value of a JSON text: plain lists, dicts, strings, finite floats and integers of at most 64 bits.

    Raises:
        NotJson: the text is not valid JSON, or is nested too deeply.
        CompressionError: it has too many values, or a number out of range.
    """
    if _most_values(data) > MOST_VALUES:
        raise CompressionError(f"{what} holds more than the {MOST_VALUES:,} values that are read of one")
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise NotJson(f"{what} is not valid JSON: {error}") from error
    check_plain(value, what)
    return value


def json_object(data: bytes | str, what: str) -> dict[str, Any]:
    """The value of a JSON text that must be an object.

    Raises:
        CompressionError: as :func:`json_value`, or the value is not an object.
    """
    value = json_value(data, what)
    if not isinstance(value, dict):
        raise CompressionError(f"{what} must hold one JSON object")
    return value


def read_object(path: str | Path, what: str, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CompressionError: as :func:`read_bytes` and :func:`json_object`.
    """
    return json_object(read_bytes(path, what, most), f"{what} {path}")


def typed(kind: TypeAdapter[T], value: Any, what: str = "") -> T:
    """``value`` as the type of ``kind``, a ``TypeAdapter`` created once in a module.

    Its numbers, texts and flags are :data:`Whole`, :data:`Number`, :data:`Text`, …, which do not convert.

    Raises:
        CompressionError: naming the first wrong field, its allowed values, and its value.
    """
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        refuse(error, what)


def refuse(error: ValidationError, what: str) -> NoReturn:
    """Raise the first error of a validation as one line; ``what`` names the value.

    Raises:
        CompressionError: always.
    """
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"]))
    kind = first["type"]
    message = _MESSAGES.get(kind) or first["msg"].replace("Input should ", "must ", 1)
    shown = "" if kind in _WITHOUT_VALUE else f", not {short(first['input'])}"
    subject = f"{what}: {cut(field)}" if what and field else cut(field) or what
    raise CompressionError(f"{subject} {message}{shown}") from error


_WITHOUT_VALUE = ("missing", "unexpected_keyword_argument", "extra_forbidden")
_MESSAGES = {
    "missing": "is missing",
    "too_short": "has too few entries",
    "too_long": "has too many entries",
    "unexpected_keyword_argument": "is no field that is known here",
    "extra_forbidden": "is no field that is known here",
    "dataclass_type": "must be an object",
    "dict_type": "must be an object of names and values",
    "mapping_type": "must be an object of names and values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "is_instance_of": "must be an object",
    "bool_type": "must be true or false",
    "union_tag_invalid": "is of no kind that is known here",
    "union_tag_not_found": "is of no kind that is known here",
    "model_attributes_type": "must be an object of names and values",
}
"""Error type of the validation library → message in JSON's terms."""


def short(value: Any) -> str:
    """``repr`` of a value from a file, short enough for a message of one line, whatever its size."""
    return cut(_SHORT.repr(value))


def cut(text: str) -> str:
    """A name from a file, on one line and short enough for a message."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 160 else f"{text[:160]}…"


def listed(names: Sequence[str]) -> str:
    """Names in a line, the first few of many: ``conv1, conv2 and 27 more``."""
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"{', '.join(names[:NAMES])}{more}"


def check_version(value: Mapping[str, Any], known: int, what: str) -> None:
    """Refuse a file of another version by name.

    Raises:
        CompressionError: naming the version of the file and the supported one.
    """
    version = value.get("version")
    if type(version) is not int or version != known:
        newer = isinstance(version, int) and version > known
        way_out = "open it with the newer release that wrote it" if newer else "put the right file back"
        raise CompressionError(f"{what} has version {short(version)}, this program reads version {known}: {way_out}")


def _most_values(data: bytes | str) -> int:
    """An upper bound of the number of values in a JSON text, without parsing it."""
    if isinstance(data, str):
        return sum(data.count(mark) for mark in ",[{")
    return sum(data.count(mark) for mark in (b",", b"[", b"{"))


def check_plain(value: Any, what: str) -> None:
    """Refuse values that JSON cannot represent, numbers out of range, and nesting deeper than the parser accepts.

    Raises:
        CompressionError: naming the value.
    """
    level, depth = [value], 0
    while level:
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                deeper += item.values()
            elif isinstance(item, (list, tuple)):
                deeper += item
            elif isinstance(item, (int, float)) and not isinstance(item, bool) and not is_number(item):
                raise CompressionError(f"{what} holds {short(item)}, which is out of range")
            elif item is not None and not isinstance(item, (str, int, float)):
                raise CompressionError(f"{what} holds a {type(item).__name__}, which no file of this format can hold")
        level, depth = deeper, depth + 1
        if depth > MOST_DEPTH:
            raise CompressionError(f"{what} is nested more than {MOST_DEPTH} levels deep")
