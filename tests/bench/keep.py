"""Rows kept on disk as they are measured, so that an interrupted benchmark goes on, or two halves come together."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tests.bench.oracle import Equality
from tests.bench.subjects import Facts, Row


def stored(path: Path | None) -> dict[str, Row]:
    """Rows by name from a file of JSON lines; none without a file."""
    if path is None or not path.is_file():
        return {}
    rows = [_row(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.name: row for row in rows}


def _row(raw: dict[str, object]) -> Row:
    facts, equality = raw.pop("facts"), raw.pop("equality")
    row = Row(**raw)  # type: ignore[arg-type]
    row.facts = Facts(**facts) if isinstance(facts, dict) else None
    row.equality = Equality(**equality) if isinstance(equality, dict) else str(equality)
    return row


def keep(path: Path | None, row: Row) -> None:
    """Append a row."""
    if path is not None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")
