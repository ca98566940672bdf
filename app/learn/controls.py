"""The controls of a lesson: drawn one after the other, begun where the address says, and stored in the address.

``?lesson=2&bits=3&layer=conv1``; several options with commas between, ``none`` for none of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import streamlit as st

from app import plain, state
from app.terms import tip
from compression.reading import cut
from lessons.contents import Entry
from lessons.lesson import Choice, Lesson, Slider

OWN = {"lesson", "view", "term", "derivation", *state.DEFAULTS}
Field = Slider | Choice


def controls(entry: Entry, lesson: Lesson) -> dict[str, Any]:
    """Draw the fields one after the other (a later one may depend on an earlier) and keep the address in step."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    prefix = f"lesson{entry.number}_"
    while len(values) < len(fields := lesson.fields(values)):
        field = fields[len(values)]
        problems += _seed(field, prefix + field.key)
        with st.container(key=f"{'half' if field.half else 'whole'}_{prefix}{field.key}"):
            value = values[field.key] = _widget(field, prefix + field.key)
        state.address(field.key, "" if value == field.default else write(value))
    # A name of a control that is no longer drawn is removed without a word
    if foreign := [name for name in forget(values) if f"{prefix}{name}" not in st.session_state]:
        problems.append(f"This lesson has no “{cut(foreign[0])}”, which the address names: it is left out.")
    if problems:
        st.info(plain.text(" ".join(problems)), icon=":material/link:")
    return values


def forget(known: Collection[str] = ()) -> list[str]:
    """Remove the values of a lesson from the address, except ``known`` ones; their names."""
    unknown = [name for name in st.query_params if name not in {*known, *OWN}]
    for name in unknown:
        del st.query_params[name]
    return unknown


def write(value: Any) -> str:
    """A value as the address holds it."""
    if isinstance(value, list):
        return ",".join(value) or "none"
    return value if isinstance(value, str) else f"{value:g}"


def parse(field: Field, raw: str) -> Any:
    """The value that an address names; ``None`` where the field does not take it."""
    if isinstance(field, Slider):
        try:
            number = float(raw)
        except ValueError:
            return None
        value = type(field.step)(number) if field.low <= number <= field.high else None
        return value if value == number else None
    if not isinstance(field.default, list):
        return raw if raw in field.options else None
    named = {*raw.split(",")} - {"", "none"}
    return [name for name in field.options if name in named] if named <= {*field.options} else None


def _seed(field: Field, key: str) -> list[str]:
    """Let a new control begin where the address says; the refusals. One whose limits changed goes to the nearest value
    there is now, one whose options did to its start.
    """
    if key in st.session_state:
        present = st.session_state[key]
        if parse(field, write(present)) is None:
            slides = isinstance(field, Slider) and isinstance(present, (int, float))
            st.session_state[key] = _nearest(cast("Slider", field), present) if slides else field.default
        return []
    raw = st.query_params.get(field.key, "")
    value = parse(field, raw[:1000]) if raw else None
    st.session_state[key] = field.default if value is None else value
    if value is not None or not raw:
        return []
    allowed = f"{field.low:g} to {field.high:g}" if isinstance(field, Slider) else ", ".join(field.options)
    if isinstance(field.default, list):
        allowed = f"any of {allowed}, with commas between"
    return [f"The address asks for {field.key} “{cut(raw)}”; there is {allowed}. The lesson begins as usual."]


def _nearest(field: Slider, value: float) -> float:
    return type(field.step)(min(max(value, field.low), field.high))


def _widget(field: Field, key: str) -> Any:
    common: dict[str, Any] = {"key": key, "help": tip(field.help)}
    if isinstance(field, Slider):
        return st.slider(field.label, field.low, field.high, step=field.step, format=field.format, **common)
    common |= {"options": list(field.options), "format_func": field.options.__getitem__}
    if isinstance(field.default, list):
        return st.pills(field.label, selection_mode="multi", wrap=True, **common)
    if field.pills:
        return st.pills(field.label, required=True, wrap=True, **common)
    return st.selectbox(field.label, **common)
