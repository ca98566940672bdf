"""The controls of a lesson: drawn one after the other, begun where the address says, and kept in the address."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import plain, state
from app.learn.lessons.fields import Field, Several, Slider
from app.learn.lessons.lesson import Entry, Lesson
from app.terms import tip

OWN = ("lesson", "view", "term")
FEW_OPTIONS = 7  # offered as pills; more as a list
LONGEST = 60


def controls(found: Entry, lesson: Lesson) -> dict[str, Any]:
    """Draw the fields one after the other (a later one may depend on an earlier) and keep the address in step."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for count in range(100):
        fields = lesson.fields(values)
        if count >= len(fields):
            break
        field, key = fields[count], f"lesson{found.number}_{fields[count].key}"
        problems += _seeded(field, key)
        with st.container(key=f"{'half' if field.half else 'whole'}_{key}"):
            values[field.key] = _drawn(field, key)
    problems += _strangers({field.key for field in lesson.fields(values)}, f"lesson{found.number}_")
    for field in lesson.fields(values):
        _written(field, values[field.key])
    if problems:
        st.info(plain.text(" ".join(problems)), icon=":material/link:")
    return values


def _seeded(field: Field, key: str) -> list[str]:
    """Let a fresh control begin where the address says, and one whose options changed where it can."""
    if key in st.session_state and _fits(field, st.session_state[key]):
        return []
    raw = st.query_params.get(field.key)
    known = field.parse(raw[:1000]) if raw is not None and key not in st.session_state else None
    st.session_state[key] = known if known is not None else _first(field)
    if raw is None or known is not None or raw == "":
        return []
    return [f"The address asks for {field.key} “{short(raw)}”; there is {field.allowed}. The lesson begins as usual."]


def _fits(field: Field, value: Any) -> bool:
    if isinstance(field, Slider):
        return isinstance(value, (int, float)) and field.low <= value <= field.high
    return isinstance(field, Several) or value in field.options


def _first(field: Field) -> Any:
    return list(field.default) if isinstance(field, Several) else field.default


def _drawn(field: Field, key: str) -> Any:
    explained = tip(field.help)
    if isinstance(field, Slider):
        low, high, step = (int(v) if field.whole else float(v) for v in (field.low, field.high, field.step))
        return st.slider(field.label, low, high, step=step, format=field.form, key=key, help=explained)
    shown = field.options.__getitem__
    if isinstance(field, Several):
        return st.pills(
            field.label,
            list(field.options),
            selection_mode="multi",
            key=key,
            wrap=True,
            format_func=shown,
            help=explained,
        )
    if field.pills and len(field.options) <= FEW_OPTIONS:
        return st.pills(
            field.label, list(field.options), required=True, key=key, wrap=True, format_func=shown, help=explained
        )
    return st.selectbox(field.label, list(field.options), key=key, format_func=shown, help=explained)


def _written(field: Field, value: Any) -> None:
    told = field.write(value)
    if value == _first(field):
        if field.key in st.query_params:
            del st.query_params[field.key]
    elif st.query_params.get(field.key) != told:
        st.query_params[field.key] = told


def _strangers(known: set[str], ours: str) -> list[str]:
    """What the address names besides: said once, then taken out.

    Values of another lesson, and of this lesson's controls that have just gone, go without a word.
    """
    unknown = [name for name in st.query_params if name not in {*known, *OWN, *state.DEFAULTS}]
    for name in unknown:
        del st.query_params[name]
    left = st.session_state.get("lesson_left")
    foreign = [name for name in unknown if not left and f"{ours}{name}" not in st.session_state]
    st.session_state["lesson_left"] = False
    return [f"This lesson has no “{short(foreign[0])}”, which the address names: it is left out."] if foreign else []


def short(text: str) -> str:
    """As much of what an address says as fits a line."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
