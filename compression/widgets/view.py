"""A drawing as data: a title, facts, tables, notes, a small curve; once as HTML, once as plain text.

The HTML has no script and no style sheet: colours are those of the page around it, so that it is read on light and on
dark ones. Every name in it is escaped, and what would be invisible or turn the writing round is spelled out.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from compression.aligned import is_numeric, table
from compression.plots import theme

MOST_ROWS, MOST_LINES = 60, 12
"""Rows of a table as HTML, and as plain text; the others are counted."""
LONGEST = 400
_SPELLED = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # control, direction, half pairs, no character, line ends
_LINE = f"border-bottom:1px solid {theme.FAINT}"
_CELL = "padding:.15em .7em;vertical-align:top;text-align:"


@dataclass(frozen=True)
class Bar:
    """A number with a bar beside it: ``share`` of its full length, in 0..1."""

    share: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows under their heads; rows at the places ``marked`` stand out."""

    head: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    marked: frozenset[int] = frozenset()

    def html(self) -> str:
        """The first rows, and how many more there are."""
        shown = self.rows[:MOST_ROWS]
        right = [is_numeric([str(row[i]) for row in shown]) for i in range(len(self.head))]
        sides = ["right;white-space:nowrap" if each else "left" for each in right]
        heads = zip(self.head, sides, strict=True)
        lines = ["".join(f'<th scope="col" style="{_CELL}{side};{_LINE}">{safe(name)}</th>' for name, side in heads)]
        for place, row in enumerate(shown):
            weight = ";font-weight:bold" if place in self.marked else ""
            cells = zip(row, sides, strict=True)
            lines.append("".join(f'<td style="{_CELL}{side}{weight}">{_cell(each)}</td>' for each, side in cells))
        if more := len(self.rows) - len(shown):
            lines.append(f'<td colspan="{len(self.head)}" style="{_CELL}left;opacity:.7">and {more:,} more</td>')
        head, *body = (f"<tr>{line}</tr>" for line in lines)
        style = "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4em 0"
        return f'<table style="{style}"><thead>{head}</thead><tbody>{"".join(body)}</tbody></table>'

    def text(self) -> str:
        """The same in columns."""
        shown = [[visible(str(cell)) for cell in row] for row in self.rows[:MOST_LINES]]
        more = len(self.rows) - len(shown)
        return table([visible(name) for name in self.head], shown) + (f"\n… and {more:,} more" if more else "")


@dataclass(frozen=True)
class Curve:
    """A line through (x, y) places, larger y further up; ``label`` says what it shows."""

    places: Sequence[tuple[float, float]]
    label: str

    def html(self) -> str:
        """A picture of 260 by 60 pixels; nothing of less than two places."""
        if len(self.places) < 2:
            return ""
        xs, ys = zip(*self.places, strict=True)
        (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))

        def place(x: float, y: float) -> str:
            across = (x - left) / (right - left or 1.0)
            up = (y - low) / (high - low or 1.0)
            return f"{4 + 252 * across:.1f},{56 - 52 * up:.1f}"

        step = -(-len(self.places) // 200)  # as many as the picture can show
        line = " ".join(place(*each) for each in [*self.places[:-1:step], self.places[-1]])
        drawn = f'<polyline points="{line}" fill="none" stroke="{theme.ACCENT}" stroke-width="2"/>'
        label = safe(self.label)
        opened = f'<svg role="img" aria-label="{label}" width="260" height="60" viewBox="0 0 260 60">'
        return f'<div>{opened}{drawn}</svg> <span style="opacity:.7">{label}</span></div>'


@dataclass(frozen=True)
class View:
    """What an object looks like: ``facts`` are (name, value) pairs of its first line."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    curve: Curve | None = field(default=None)

    def html(self) -> str:
        """One element without scripts, style sheets, links or identifiers."""
        facts = "".join(
            f'<span style="margin-right:1.2em;white-space:nowrap"><span style="opacity:.7">{safe(name)}</span> '
            f"{safe(value)}</span> "
            for name, value in self.facts
        )
        parts = [f"<div><b>{safe(self.title)}</b></div>", *([f"<div>{facts}</div>"] if facts else [])]
        parts += [f"<div>{safe(note)}</div>" for note in self.notes]
        parts += [each.html() for each in self.tables[:1] if each.rows]
        parts += [] if self.curve is None else [self.curve.html()]
        parts += [each.html() for each in self.tables[1:] if each.rows]
        return f'<div style="line-height:1.5;overflow-x:auto">{"".join(parts)}</div>'

    def text(self) -> str:
        """A few lines."""
        facts = ", ".join(" ".join(filter(None, (visible(name), visible(value)))) for name, value in self.facts)
        lines = [f"{visible(self.title)}{': ' if facts else ''}{facts}", *map(visible, self.notes)]
        lines += [] if self.curve is None else [visible(self.curve.label)]
        return "\n".join([*lines, *(each.text() for each in self.tables if each.rows)])


def visible(text: str) -> str:
    """One line of characters that are seen; what is not (controls, directions, halves of a pair) as its escape."""
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    shown = (char if unicodedata.category(char) not in _SPELLED else _escape(char) for char in cut)
    return "".join(shown)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()  # halves of a pair as well


def safe(text: str) -> str:
    """A text as HTML that shows exactly its characters."""
    return html.escape(visible(text))


def _cell(value: object) -> str:
    if not isinstance(value, Bar):
        return safe(str(value))
    width = f"{100 * min(1.0, max(0.0, value.share)):.0f}%"
    filled = f'<span style="display:block;height:100%;width:{width};background:{theme.ACCENT}"></span>'
    style = f"display:inline-block;width:5em;height:.6em;margin-right:.5em;background:{theme.FAINT}"
    return f'<span aria-hidden="true" style="{style}">{filled}</span>{safe(value.text)}'
