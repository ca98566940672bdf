"""What a lesson is: controls, a pure function from their values to a view, an exercise, and links to other pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Slider:
    """A number from ``low`` to ``high``, whole where ``step`` is an int. ``half``: it shares its line with another."""

    key: str
    label: str
    low: float
    high: float
    step: float
    default: float
    help: str = ""
    half: bool = False
    format: str | None = None


@dataclass(frozen=True)
class Choice:
    """One of ``options`` (value → label), or several where ``default`` is a list; as ``pills`` or as a list."""

    key: str
    label: str
    options: Mapping[str, str]
    default: str | list[str]
    help: str = ""
    half: bool = False
    pills: bool = False


@dataclass(frozen=True)
class Number:
    """The answer ``value``, and how far off one may be; ``unit`` is shown in the empty field."""

    value: float
    tolerance: float
    unit: str = ""


@dataclass(frozen=True)
class Pick:
    """The answer is one of ``options`` (value → label)."""

    options: Mapping[str, str]
    value: str


@dataclass(frozen=True)
class View:
    """What a lesson shows for the values of its controls.

    ``caption``: what to see in the figure; ``facts``: the numbers that the text names; ``rows``: the figure as a table.
    """

    figure: go.Figure
    caption: str
    facts: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Link:
    """A link to the page that shows the same; ``{run}`` in the ``label`` says whose run it opens.

    ``run``: the run of the gallery that is opened where the chosen one does not fit: none is chosen, its method is none
    of ``methods`` (empty: any), or its model is not stored where the page needs it (``whole``). Without ``run`` the
    link opens the chosen model. ``query``: more of the address.
    """

    page: str
    label: str
    run: str = ""
    methods: tuple[str, ...] = ()
    whole: bool = False
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """``fields`` gives the controls, which may depend on the values chosen so far; ``links``: “In your run”."""

    fields: Callable[[Values], Sequence[Slider | Choice]]
    show: Callable[[Values], View]
    answer: Callable[[], Number | Pick]
    links: tuple[Link, ...]
