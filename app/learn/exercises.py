"""The exercise of a lesson: the question, the field, and the check of what is typed into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import plain
from compression.errors import CompressionError
from lessons.contents import Entry
from lessons.lesson import Number, Pick

FEW_OPTIONS = 7  # offered as buttons; more as a list
NUMBER = re.compile(r"[+-]?(\d+([.,](\d*))?|[.,](\d+))(e[+-]?\d{1,2})?", re.IGNORECASE | re.ASCII)
FRACTION = re.compile(r"([+-]?\d{1,9})/(\d{1,9})", re.ASCII)
RIGHT, ALMOST, WRONG = "right", "almost", "wrong"


def exercise(entry: Entry, words: Mapping[str, str], answer: Number | Pick) -> None:
    """The question, the field, and above them the verdict: what lies below the field may be out of sight."""
    key = f"exercise{entry.number}"
    with st.form(key, border=False):
        verdict = st.container()
        st.markdown(f"**:material/quiz: Exercise.** {words['Exercise']}")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            text = _field(answer, f"{key}_answer") or ""
            pressed = st.form_submit_button("Check", icon=":material/done_all:")
    if not pressed:
        return
    with verdict:
        try:
            verdict_of = check(answer, text)
            if verdict_of == RIGHT:
                st.success(f"Right. {words['Answer']}", icon=":material/check:")
            elif verdict_of == ALMOST:
                st.warning("Almost: that is the answer, rounded. Give two digits more.", icon=":material/more_horiz:")
            else:
                st.warning(f"Not quite. {words['Hint']}", icon=":material/lightbulb:")
        except CompressionError as problem:
            st.info(plain.text(problem), icon=":material/edit:")


def _field(answer: Number | Pick, key: str) -> str | None:
    common: dict[str, Any] = {"key": key, "label_visibility": "collapsed"}  # the question is above the field
    if isinstance(answer, Number):
        label, unit = f"Your answer, {answer.unit}".removesuffix(", "), answer.unit or "a number"
        return st.text_input(label, max_chars=200, placeholder=unit, width="stretch", **common)
    common |= {"options": list(answer.options), "index": None, "format_func": answer.options.__getitem__}
    if len(answer.options) > FEW_OPTIONS:
        return st.selectbox("Your answer", **common)
    return st.radio("Your answer", horizontal=True, **common)


def check(answer: Number | Pick, text: str) -> str:
    """Is this the answer: ``right``, ``wrong``, or ``almost``, where it is rounded too far?

    Raises:
        CompressionError: it is empty, no number, or none of the options.
    """
    if isinstance(answer, Pick):
        if text not in answer.options:
            raise CompressionError("Choose one of the answers first.")
        return RIGHT if text == answer.value else WRONG
    if not text.strip():
        raise CompressionError("Type a number first; a guess is fine, it costs nothing.")
    number = read_number(text)
    if abs(number - answer.value) <= answer.tolerance:
        return RIGHT
    return ALMOST if number and number == round(answer.value, _digits(text)) else WRONG


def _compact(text: str) -> str:
    return re.sub(r"\s", "", text).removesuffix("%").replace("−", "-")


def _digits(text: str) -> int:
    """How many digits stand behind the point."""
    number = NUMBER.fullmatch(_compact(text))
    return len(number[3] or number[4] or "") if number else 0


def read_number(text: str) -> float:
    """``3,5`` and ``3.5 %`` and ``1 000`` and ``1/7`` are read.

    Raises:
        CompressionError: anything else, infinity and NaN too.
    """
    compact = _compact(text)
    if (fraction := FRACTION.fullmatch(compact)) and int(fraction[2]):
        return int(fraction[1]) / int(fraction[2])
    if not NUMBER.fullmatch(compact):
        shown = text.strip()[:40] + "…" * (len(text.strip()) > 40)
        raise CompressionError(f"“{shown}” is no number this page can read. Type one such as 12 or 3.5.")
    return float(compact.replace(",", "."))
