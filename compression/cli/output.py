"""Answers for people and for programs: text and tables on standard output, JSON where it is requested."""

from __future__ import annotations

import json
import re
import string
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.runs.files import finite, write_json

UNITS = ("B", "kB", "MB", "GB")
_NUMBER = re.compile(r"–?|-?[\d,.]+(e-?\d+)?( ?(%|B|kB|MB|GB))?")


def answer(value: Any, text: str, target: str | None) -> None:
    """Write ``value`` as JSON to ``target``, and ``text`` to standard output unless the JSON goes there.

    Raises:
        CompressionError: the file cannot be written.
    """
    if target == "-":
        json.dump(finite(value), sys.stdout, indent=2, allow_nan=False)
        print()
        return
    if target is not None:
        try:
            _write(Path(target), value)
        except OSError as error:
            raise CompressionError(f"--json {target}: {error.strerror or error}") from error
    print(text)


def _write(path: Path, value: Any) -> None:
    """Into a file atomically; into a device or pipe (such as /dev/stdout) as it is, for it must not be replaced."""
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as stream:
            json.dump(finite(value), stream, indent=2, allow_nan=False)
            stream.write("\n")
    else:
        write_json(path, value)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns under their heads; numbers to the right, words to the left."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    right = [bool(cells) and all(_NUMBER.fullmatch(row[i]) for row in cells) for i in range(len(head))]
    lines = [_line(line, widths, right) for line in [list(head), *cells]]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True)]
    return "  ".join(padded).rstrip()


def size(count: float | None) -> str:
    """Bytes in the unit that keeps the number short: 81,904 B is 81.9 kB."""
    if count is None:
        return "–"
    value, unit = float(count), UNITS[0]
    for unit in UNITS:
        if value < 1000 or unit == UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal."""
    return "–" if share is None else f"{100 * share:.1f} %"


def shape(sizes: Sequence[int]) -> str:
    """(3, 32, 32) as 3x32x32."""
    return "x".join(map(str, sizes))


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "size": size,
    "percent": percent,
    "shape": shape,
    "list": ", ".join,
    "range": lambda ends: f"{ends[0]:g}" if ends[0] == ends[1] else f"{ends[0]:g} to {ends[1]:g}",
    "count": lambda values: "" if values is None else str(len(values)),
}


class _Cells(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec in _WORDS:
            return _WORDS[format_spec](value)
        return "" if value is None else format(value, format_spec)


def columns(cells: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table of dictionaries: ``cells`` maps each head to a format such as ``{numel:,}`` or ``{bytes:size}``."""
    spell = _Cells().vformat
    return table(tuple(cells), [[spell(cell, (), row) for cell in cells.values()] for row in rows])
