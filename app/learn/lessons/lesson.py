"""What a lesson is: what can be moved, what is then shown, and the answer to its exercise. No drawing here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import plotly.graph_objects as go

from app.learn.lessons.answers import Answer
from app.learn.lessons.fields import Field, Values


@dataclass(frozen=True)
class Shown:
    """What a lesson shows for the values of its fields.

    ``facts``: the numbers that its text asks for; ``said``: one sentence under the picture, which tells what to see in
    it; ``rows``: the picture as a table.
    """

    figure: go.Figure
    said: str
    facts: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class See:
    """A link “in your run”: the page, the link's words (``{run}``: whose run it is) and more of the address.

    ``run``: the run of the gallery that is opened where the chosen one does not fit, because none is chosen, it is of
    none of the ``methods`` (empty: any), or its model is gone where the page needs it (``whole``). Without ``run`` the
    link opens the chosen model.
    """

    page: str
    label: str
    run: str = ""
    methods: tuple[str, ...] = ()
    whole: bool = False
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """``fields`` may look at the values chosen so far; ``see``: the links “in your run”."""

    fields: Callable[[Values], Sequence[Field]]
    show: Callable[[Values], Shown]
    answer: Callable[[], Answer]
    see: tuple[See, ...]


@dataclass(frozen=True)
class Entry:
    """One line of the table of contents; ``name`` is its module, and its text with the number before it."""

    number: int
    name: str
    short: str

    @property
    def text(self) -> str:
        """The name of its text file."""
        return f"{self.number:02d}-{self.name}"

    def load(self) -> Lesson:
        """The lesson; its module comes with the first call."""
        found: Lesson = import_module(f"app.learn.lessons.{self.name}").LESSON
        return found


CONTENTS = (
    Entry(1, "channels", "Channels"),
    Entry(2, "rounding", "Rounding"),
    Entry(3, "staircase", "Staircase"),
    Entry(4, "widths", "Bits"),
    Entry(5, "stages", "GETA"),
    Entry(6, "waterline", "One threshold"),
    Entry(7, "codebook", "One codebook"),
    Entry(8, "spending", "Where bits go"),
    Entry(9, "counting", "Counting"),
    Entry(10, "forgetting", "Forgetting"),
)


def entry(number: str) -> Entry | None:
    """The lesson of this number, if there is one."""
    return next((found for found in CONTENTS if str(found.number) == number.strip()), None)
