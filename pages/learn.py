"""Learn: lessons of one screen each, a glossary, and notes for teachers."""

from __future__ import annotations

import streamlit as st

from app import nav, projector, widgets
from app.learn import derivations, glossary, lesson_page
from app.runs import runlog
from lessons import contents


def page() -> None:
    """The page from top to bottom: one row that leads through it, and the lesson, the glossary or the notes."""
    bar = st.container(key="learn_bar", horizontal=True, vertical_alignment="center")
    view = lesson_page.view()
    with bar:
        st.title(nav.PAGES["learn"].question, anchor=False, width="content")
        lesson_page.views(view)
        steps = st.container(key="lesson_steps", horizontal=True, vertical_alignment="center", gap="small")
        projector.switch()
    if view == lesson_page.GLOSSARY:
        glossary.draw()
    elif view == lesson_page.DERIVATIONS:
        derivations.draw()
    elif view == lesson_page.TEACHERS:
        st.markdown(contents.page("teachers"))
    else:
        entry = lesson_page.named()
        for problem in runlog.known("run"):
            widgets.problem(problem)
        with steps:
            lesson_page.steps(entry)
        st.fragment(lesson_page.draw)(entry)


page()
