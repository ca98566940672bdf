"""Answers for people and for programs: text and tables on standard output, JSON where it is requested."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import humanize

from compression.aligned import table
from compression.errors import CompressionError
from compression.runs.files import finite, write_atomic


def answer(value: Any, text: str, target: str | None) -> None:
    """Write ``value`` as JSON to ``target``, and ``text`` to standard output unless the JSON goes there.

    Raises:
        CompressionError: the file cannot be written.
    """
    if target is not None:
        write(json.dumps(finite(value), indent=2, allow_nan=False), target, "--json")
    if target != "-":
        print(text)


def write(text: str, target: str, option: str) -> None:
    """Write to standard output (``-``), into a file atomically, into a device or pipe as it is: it is never replaced.

    Raises:
        CompressionError: naming the ``option`` whose file cannot be written.
    """
    if target == "-":
        print(text)
        return
    path = Path(target)
    try:
        if path.exists() and not path.is_file():
            path.write_text(f"{text}\n", encoding="utf-8")
        else:
            write_atomic(path, f"{text}\n")
    except OSError as error:
        raise CompressionError(f"{option} {target}: {error.strerror or error}") from error


def size(count: float | None) -> str:
    """Bytes in the unit that keeps the number short: 81,904 B is 81.9 kB."""
    return "–" if count is None else re.sub("Bytes?$", "B", humanize.naturalsize(round(count)))


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
