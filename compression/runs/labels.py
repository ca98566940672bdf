"""What people call a run: a name and tags, in a file of its folder that anybody may write and the run never reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from compression.errors import CompressionError
from compression.reading import Text, Whole, check_version, cut, read_object, typed
from compression.runs.files import write_json, written_in
from compression.runs.layout import RunFiles

VERSION = 1
LONGEST_NAME, LONGEST_TAG, MOST_TAGS = 120, 40, 20
MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Labels:
    """``name`` is one line, empty where there is none; ``tags`` are words, each once, in the order they were given."""

    name: str = ""
    tags: tuple[str, ...] = ()


class _File(TypedDict):
    version: Whole
    name: NotRequired[Text]
    tags: NotRequired[list[Text]]


_FILE = TypeAdapter(_File)


def labels(name: str, tags: Iterable[str] = ()) -> Labels:
    """A name and tags without surrounding blanks; empty and repeated tags are left out.

    Raises:
        CompressionError: one is too long, there are too many tags, or one has a control character or a comma.
    """
    name = name.strip()
    words = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if len(name) > LONGEST_NAME:
        raise CompressionError(f"a name of {len(name)} letters is too long: {LONGEST_NAME} at most")
    if len(words) > MOST_TAGS:
        raise CompressionError(f"{len(words)} tags are too many: {MOST_TAGS} at most")
    for tag in words:
        if len(tag) > LONGEST_TAG or "," in tag:
            raise CompressionError(f"tag {cut(tag)!r} cannot be: {LONGEST_TAG} letters at most, without a comma")
    if not all(text.isprintable() for text in (name, *words)):
        raise CompressionError("a name or a tag cannot have line breaks or control characters")
    return Labels(name, words)


def read(folder: RunFiles) -> Labels:
    """The name and tags of a run; both empty where nobody has given any.

    Raises:
        CompressionError: the file is damaged or of another version.
    """
    path = folder.labels_path
    if not path.is_file():
        return Labels()
    what = f"labels {path}"
    raw = read_object(path, "labels", MOST_BYTES)
    check_version(raw, VERSION, what)
    stored = typed(_FILE, raw, what)
    try:
        return labels(stored.get("name", ""), stored.get("tags", []))
    except CompressionError as error:
        raise CompressionError(f"{what}: {error}") from error


def write(folder: RunFiles, value: Labels) -> None:
    """Name a run anew; without a name and tags the file goes.

    Raises:
        CompressionError: the runs folder cannot be written.
    """
    with written_in(folder.path.parent):
        if value == Labels():
            folder.labels_path.unlink(missing_ok=True)
        else:
            write_json(folder.labels_path, {"version": VERSION, "name": value.name, "tags": list(value.tags)})


def read_all(root: str | Path, runs: Iterable[str]) -> tuple[dict[str, Labels], list[str]]:
    """The labels of those runs below ``root`` that have any, and a line for each file that cannot be read."""
    named: dict[str, Labels] = {}
    problems = []
    for run in runs:
        folder = RunFiles(Path(root) / run)
        if not os.path.lexists(folder.labels_path):
            continue
        try:
            named[run] = read(folder)
        except CompressionError as error:
            problems.append(str(error))
    return named, problems
