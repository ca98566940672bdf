"""Learn: ten lessons of one screen each, a glossary, and notes for teachers."""

from __future__ import annotations

import streamlit as st

from app import nav, widgets
from app.learn import glossary, learning
from app.learn.lessons import texts
from app.learn.lessons.lesson import CONTENTS
from app.runs import runlog


def contents(current: int) -> None:
    """The table of contents as a row of pills."""
    st.session_state["lesson"] = current
    st.pills(
        "Lesson",
        [found.number for found in CONTENTS],
        required=True,
        key="lesson",
        wrap=True,
        format_func={found.number: f"{found.number} {found.short}" for found in CONTENTS}.__getitem__,
        on_change=lambda: learning.choose(st.session_state["lesson"]),
        label_visibility="collapsed",
    )


def page() -> None:
    """The page from top to bottom."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(nav.PAGES["learn"].question, anchor=False, width="content")
        view = learning.view()
    if view == learning.GLOSSARY:
        glossary.draw()
    elif view == learning.TEACHERS:
        st.markdown(texts.page("teachers"))
    else:
        found = learning.named()
        for problem in runlog.known("run"):
            widgets.problem(problem)
        contents(found.number)
        st.fragment(learning.draw)(found)


page()
