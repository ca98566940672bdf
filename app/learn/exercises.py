"""The exercise of a lesson: the question, the field, and what is said about the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.learn.lessonfields import FEW_OPTIONS
from app.learn.lessons import answers, texts
from app.learn.lessons.answers import Answer, Pick
from app.learn.lessons.lesson import Entry

YOURS = "Your answer"
HIDDEN: dict[str, Any] = {"label_visibility": "collapsed"}  # the question stands above the field


def exercise(found: Entry, text: texts.Text, answer: Answer, facts: Mapping[str, str]) -> None:
    """The question, the field, and what is said about the answer."""
    key = f"exercise{found.number}"
    with st.form(key, border=False):
        told = st.container()  # above the question: what lies below the field may be out of sight
        st.markdown("**:material/quiz: Exercise.** " + texts.fill(text.sections["Exercise"], facts))
        with st.container(horizontal=True, vertical_alignment="bottom"):
            given = _field(answer, key)
            pressed = st.form_submit_button("Check", icon=":material/done_all:")
    if pressed:
        verdict = answers.judge(given, answer)
        with told:
            _tell(verdict, texts.fill(text.sections["Hint"], facts), texts.fill(text.sections["Answer"], facts))


def _field(answer: Answer, key: str) -> str | None:
    if isinstance(answer, Pick):
        shown = answer.options.__getitem__
        options, of = list(answer.options), f"{key}_answer"
        if len(options) > FEW_OPTIONS:
            return st.selectbox(YOURS, options, index=None, format_func=shown, key=of, **HIDDEN)
        return st.radio(YOURS, options, index=None, format_func=shown, key=of, horizontal=True, **HIDDEN)
    label = f"{YOURS}, {answer.unit}" if answer.unit else YOURS
    return st.text_input(
        label, key=f"{key}_answer", max_chars=200, placeholder=answer.unit or "a number", width="stretch", **HIDDEN
    )


def _tell(verdict: answers.Verdict, hint: str, why: str) -> None:
    if verdict.kind == answers.UNREADABLE:
        st.info(verdict.said, icon=":material/edit:")
    elif verdict.kind == answers.WRONG:
        st.warning(f"Not quite. {hint}", icon=":material/lightbulb:")
    else:
        st.success(f"Right. {why}", icon=":material/check:")
