"""The table of contents, and how a lesson's folder is read.

``text.md`` begins with ``# Title`` and the idea; its sections are those of :data:`SECTIONS`; ``«name»`` stands for a
number of the lesson. ``lesson.py`` holds ``LESSON``. Texts are read anew each time, so that an edit shows at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from compression.errors import CompressionError
from lessons.lesson import Lesson

FOLDER = Path(__file__).resolve().parent
SECTIONS = ("Formula", "Source", "Exercise", "Hint", "Answer", "In your run")
PLACE = re.compile(r"«(\w+)»")


@dataclass(frozen=True)
class Entry:
    """One lesson in the table of contents: its ``number``, the ``name`` of its folder, and a ``short`` title."""

    number: int
    name: str
    short: str

    def load(self) -> Lesson:
        """The lesson; its module is imported by the first call."""
        lesson: Lesson = import_module(f"{__package__}.{self.name}.lesson").LESSON
        return lesson


_SHORT = {
    "channels": "Channels",
    "rounding": "Rounding",
    "staircase": "Staircase",
    "widths": "Bits",
    "stages": "GETA",
    "waterline": "Threshold",
    "codebook": "Codebook",
    "spending": "Spending",
    "counting": "Counting",
    "forgetting": "Forgetting",
    "picture": "Picture",
    "following": "Following",
    "rank": "Rank",
    "norms": "Norms",
    "wire": "Wire",
    "memory": "Memory",
}
CONTENTS = tuple(Entry(number, *names) for number, names in enumerate(_SHORT.items(), 1))


def page(name: str) -> str:
    """A Markdown file of this folder: ``glossary``, ``teachers``, ``waterline/text``."""
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def title(name: str) -> str:
    """A lesson's title: the first line of its text."""
    return page(f"{name}/text").partition("\n")[0].removeprefix("# ").strip()


def text(name: str) -> dict[str, str]:
    """A lesson's words: ``Title``, ``Idea`` and the sections by name.

    Raises:
        CompressionError: the title or a section is missing.
    """
    head, *parts = re.split(r"^## ", page(f"{name}/text").strip(), flags=re.MULTILINE)
    title, _, idea = head.partition("\n")
    if not title.startswith("# "):
        raise CompressionError(f"{name}/text.md: the first line must be '# ' and the lesson's title")
    words = {section.strip(): body.strip() for section, _, body in (part.partition("\n") for part in parts)}
    if missing := [section for section in SECTIONS if section not in words]:
        raise CompressionError(f"{name}/text.md: there is no section '## {missing[0]}'")
    return {"Title": title.removeprefix("# ").strip(), "Idea": idea.strip(), **words}


def fill(words: str, facts: Mapping[str, str]) -> str:
    """Put the numbers in.

    Raises:
        CompressionError: the words name a number that the lesson does not have.
    """
    if unknown := [name for name in PLACE.findall(words) if name not in facts]:
        raise CompressionError(f"a lesson's text asks for «{unknown[0]}»; there are: {', '.join(sorted(facts))}")
    return PLACE.sub(lambda place: facts[place[1]], words)
