"""Rows of text in columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"–?|-?[\d,.]+(–[\d,.]+|e-?\d+)?( ?(%|×|[kMGT]?B|[kMGT]))?")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns under their heads; numbers to the right, words to the left."""
    columns = []
    for column in zip(head, *(map(str, row) for row in rows), strict=True):
        width = max(map(len, column))
        numeric = is_numeric(column[1:])
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, with their units, and nothing else."""
    return bool(cells) and all(map(_NUMBER.fullmatch, cells))
