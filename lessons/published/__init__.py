"""The lessons as pages without a server: text, formula, exercise, and the figure at recorded values of one control.

``python -m lessons.published FOLDER`` writes them, into ``learn`` beside the pages of ``compression.site``, whose style
and scripts they take. Every figure is computed here, by the lesson's own function; the page only chooses among them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import plotly
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown import Markdown

from lessons import contents, sources
from lessons.contents import CONTENTS, Entry, fill
from lessons.lesson import Choice, Lesson, Slider, View
from lessons.mathml import formulas

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data: blob:; font-src 'self'; base-uri 'none'; form-action 'none'"
)
"""As the site's, but for the styles that Plotly writes."""
POSITIONS, LARGE, FEW = 9, 100_000, 5  # of a control; of a figure this large (JSON bytes): so many
MOST_ROWS = 60
_DERIVATION = re.compile(re.escape(sources.VIEW) + r"([a-z-]+)")
_LINK = re.compile(r"\[([^\]]+)\]\((?!https://arxiv\.org/)[^)]*\)")
Data = dict[str, Any]


def publish(folder: Path, entries: Sequence[Entry] = CONTENTS) -> list[str]:
    """Write a page for each lesson and their table of contents into ``folder``; the names of the lessons.

    Derivations are linked where the documentation is beside the folder, as ``docs``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    derivations = (folder.parent / "docs" / "derivations").is_dir()
    ideas = {}
    for entry in entries:
        recorded = record(entry.load(), contents.text(entry.name), derivations)
        facts = recorded["frames"][recorded["start"]]["facts"]
        ideas[entry.name] = _html(_first_sentence(fill(contents.text(entry.name)["Idea"], facts)))
        (folder / f"{entry.name}.json").write_text(json.dumps(recorded), encoding="utf-8")
        (folder / f"{entry.name}.html").write_text(_page(entry, entries, recorded, derivations), encoding="utf-8")
    titles = {entry.name: contents.title(entry.name) for entry in entries}
    listed = _template("contents").render(policy=POLICY, entries=entries, titles=titles, ideas=ideas)
    (folder / "index.html").write_text(listed, encoding="utf-8")
    shutil.copyfile(PLOTLY, folder / "plotly.min.js")
    return [entry.name for entry in entries]


def record(lesson: Lesson, words: Mapping[str, str], derivations: bool = False) -> Data:
    """A lesson at several values of one control, the others at their start: ``control``, ``start``, ``frames``.

    It is the first slider, where there is none the first choice.

    A frame is the figure as Plotly's JSON and what the text says about it, as HTML.
    """
    values, fields = _start(lesson)
    single = [field for field in fields if not isinstance(field.default, list)]
    moved = next((field for field in single if isinstance(field, Slider)), single[0] if single else None)
    if moved is None:
        return {"control": "", "start": 0, "frames": [_frame(lesson.show(values), words, "")]}
    first = lesson.show(values)
    count = FEW if len(first.figure.to_json()) > LARGE else POSITIONS
    positions = _positions(moved, count)
    frames = [_frame(lesson.show(_start(lesson, {moved.key: value})[0]), words, text) for value, text in positions]
    return {
        "control": moved.label, "start": [value for value, _ in positions].index(moved.default), "frames": frames
    }  # fmt: skip


def _start(lesson: Lesson, chosen: Mapping[str, Any] | None = None) -> tuple[Data, list[Slider | Choice]]:
    """The values of a lesson at its start, but for those ``chosen``, and its controls."""
    values: Data = {}
    while len(values) < len(fields := list(lesson.fields(values))):
        field = fields[len(values)]
        values[field.key] = (chosen or {}).get(field.key, field.default)
    return values, fields


def _positions(field: Slider | Choice, count: int) -> list[tuple[Any, str]]:
    """At most ``count`` values of a control, from end to end with the one at the start among them, and their names."""
    if isinstance(field, Choice):
        names = list(field.options)
        chosen = sorted({*_spread(len(names), count), names.index(str(field.default))})
        return [(names[place], field.options[names[place]]) for place in chosen]
    steps = round((field.high - field.low) / field.step) + 1
    start = round((field.default - field.low) / field.step)
    places = [
        place for place in _spread(steps, count) if place in (0, steps - 1) or abs(place - start) >= steps / count / 2
    ]
    kind = type(field.step)
    numbers = {place: kind(field.low + place * field.step) for place in places} | {start: field.default}
    return [(number, f"{number:g}") for _, number in sorted(numbers.items())]


def _spread(size: int, count: int) -> list[int]:
    """``count`` places of ``size``, the first and the last among them."""
    return sorted({round(i * (size - 1) / (count - 1)) for i in range(count)})


def _frame(view: View, words: Mapping[str, str], position: str) -> Data:
    texts = {part: _html(fill(words[part], view.facts)) for part in ("Idea", "Formula")}
    return {
        "position": position, "figure": json.loads(view.figure.to_json()), "caption": _html(view.caption),
        "idea": texts["Idea"], "formula": texts["Formula"], "facts": dict(view.facts), "table": _table(view),
    }  # fmt: skip


def _table(view: View) -> Data:
    head = list(dict.fromkeys(name for row in view.rows for name in row))
    rows = [["" if row.get(name) is None else str(row[name]) for name in head] for row in view.rows[:MOST_ROWS]]
    return {"head": head, "rows": rows, "left_out": max(0, len(view.rows) - MOST_ROWS)}


def _page(entry: Entry, entries: Sequence[Entry], recorded: Data, derivations: bool) -> str:
    first = recorded["frames"][recorded["start"]]
    words, lesson = contents.text(entry.name), entry.load()
    texts = {part: _html(fill(words[part], first["facts"])) for part in ("Exercise", "Hint", "Answer")}
    source = sources.linked(f"Source: {words['Source']}", titles=True)
    source = _DERIVATION.sub(r"../docs/derivations/\1.html", source)
    runs = dict.fromkeys(link.run for link in lesson.links if link.run)
    place = entries.index(entry)
    return str(_template("lesson").render(
        policy=POLICY, entry=entry, title=words["Title"], first=first, texts=texts, control=recorded["control"],
        source=_html(source if derivations else _LINK.sub(r"\1", source)), positions=len(recorded["frames"]),
        start=recorded["start"], runs=[(run, run.split(".")[1]) for run in runs],
        before=entries[place - 1] if place else None, after=entries[place + 1] if place + 1 < len(entries) else None,
    ))  # fmt: skip


def _html(words: str) -> str:
    """Markdown as HTML, its formulas as MathML."""
    return formulas(
        _markdown().reset().convert(re.sub(r"^\$\$(.+?)\$\$$", r"\n$$\n\1\n$$\n", words, flags=re.M | re.S))
    )


def _first_sentence(words: str) -> str:
    return re.split(r"(?<=[.?!])\s", words, maxsplit=1)[0]


@cache
def _markdown() -> Markdown:
    arithmatex = {"pymdownx.arithmatex": {"generic": True}}
    return Markdown(extensions=["tables", "pymdownx.arithmatex"], extension_configs=arithmatex)


@cache
def _template(name: str) -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return environment.get_template(f"{name}.html.j2")
