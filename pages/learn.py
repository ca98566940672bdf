"""Learn: lessons of one screen each, a glossary, and notes for teachers."""

from __future__ import annotations

import streamlit as st

from app import nav, widgets
from app.learn import glossary, lesson_page
from app.runs import runlog
from lessons import contents
from lessons.contents import CONTENTS


def table_of_contents(current: int) -> None:
    """The lessons as a row of pills."""
    st.session_state["lesson"] = current
    st.pills(
        "Lesson",
        [entry.number for entry in CONTENTS],
        required=True,
        key="lesson",
        wrap=True,
        format_func={entry.number: f"{entry.number} {entry.short}" for entry in CONTENTS}.__getitem__,
        on_change=lambda: lesson_page.choose(st.session_state["lesson"]),
        label_visibility="collapsed",
    )


def page() -> None:
    """The page from top to bottom."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(nav.PAGES["learn"].question, anchor=False, width="content")
        view = lesson_page.view()
    if view == lesson_page.GLOSSARY:
        glossary.draw()
    elif view == lesson_page.TEACHERS:
        st.markdown(contents.page("teachers"))
    else:
        entry = lesson_page.named()
        for problem in runlog.known("run"):
            widgets.problem(problem)
        table_of_contents(entry.number)
        st.fragment(lesson_page.draw)(entry)


page()
