"""Lesson texts: Markdown files that anyone can edit, with ``«name»`` where a number of the lesson goes.

A file begins with ``# Title`` and the idea; its sections are ``## Formula``, ``## Exercise``, ``## Hint``,
``## Answer`` and ``## In your run``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from compression.errors import CompressionError

FOLDER = Path(__file__).resolve().parents[3] / "assets" / "lessons"
SECTIONS = ("Formula", "Exercise", "Hint", "Answer", "In your run")
_PLACE = re.compile(r"«(\w+)»")


@dataclass(frozen=True)
class Text:
    """One lesson's words: its title, the idea, and the sections by name."""

    title: str
    idea: str
    sections: Mapping[str, str]

    @property
    def places(self) -> frozenset[str]:
        """Every number the text asks for."""
        return frozenset(_PLACE.findall("\n".join([self.title, self.idea, *self.sections.values()])))


def parse(markdown: str, name: str) -> Text:
    """Split a lesson file into its parts.

    Raises:
        CompressionError: no title, or a section is missing.
    """
    head, *parts = re.split(r"^## ", markdown.strip(), flags=re.MULTILINE)
    first, _, idea = head.partition("\n")
    if not first.startswith("# "):
        raise CompressionError(f"{name}: the first line must be '# ' and the lesson's title")
    sections = {part.partition("\n")[0].strip(): part.partition("\n")[2].strip() for part in parts}
    missing = [section for section in SECTIONS if section not in sections]
    if missing:
        raise CompressionError(f"{name}: there is no section '## {missing[0]}'")
    return Text(first.removeprefix("# ").strip(), idea.strip(), sections)


def fill(text: str, facts: Mapping[str, str]) -> str:
    """Put the numbers in.

    Raises:
        CompressionError: the text asks for a number that the lesson does not have.
    """

    def number(found: re.Match[str]) -> str:
        if found[1] not in facts:
            raise CompressionError(f"a lesson's text asks for «{found[1]}»; there are: {', '.join(sorted(facts))}")
        return facts[found[1]]

    return _PLACE.sub(number, text)


def read(name: str) -> Text:
    """The text of a lesson, read anew when its file has changed.

    Raises:
        CompressionError: the file is missing or lacks a part.
    """
    return parse(_file(f"{name}.md"), f"{name}.md")


def page(name: str) -> str:
    """A whole Markdown file beside the lessons: the glossary, the notes for teachers.

    Raises:
        CompressionError: the file is missing.
    """
    return _file(f"{name}.md")


def _file(name: str) -> str:
    path = FOLDER / name
    if not path.is_file():
        raise CompressionError(f"the text {name} is missing from {FOLDER.parent.name}/{FOLDER.name}")
    return _cached(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _cached(path: Path, changed: int) -> str:
    return path.read_text(encoding="utf-8")
