"""The Learn page: which lesson the address names, its controls, picture, formula and exercise."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from app import plain, widgets
from app.figures import base
from app.learn import lessonlinks
from app.learn.exercises import exercise
from app.learn.lessonfields import controls, short
from app.learn.lessons import texts
from app.learn.lessons.lesson import CONTENTS, Entry, Lesson, Shown, entry

LESSONS, GLOSSARY, TEACHERS = "lessons", "glossary", "teachers"


def draw(found: Entry) -> None:
    """A lesson on one screen; moving one of its controls runs only this again. A phone orders its parts anew (CSS)."""
    lesson, text = found.load(), texts.read(found.text)
    with st.container(key="lesson_parts"):
        left, right = st.columns([4, 9], gap="large")
    with left:
        idea = st.container(key="lesson_idea", gap="small")
        with st.container(key="lesson_controls", gap="small"):
            values = controls(found, lesson)
        asked = st.container(key="lesson_exercise", border=True)
    shown = lesson.show(values)
    with idea:
        st.subheader(f"{found.number}. {text.title}", anchor=False)
        st.markdown(texts.fill(text.idea, shown.facts))
    with asked:
        exercise(found, text, lesson.answer(), shown.facts)
    with right:
        with st.container(key="lesson_picture", gap="small"):
            picture(found, text.title, shown)
        with st.container(key="lesson_formula"):
            st.markdown(texts.fill(text.sections["Formula"], shown.facts))
        with st.container(key="lesson_onward", gap="small"):
            onward(lesson, text)
            keep(found, text.title, shown)


def picture(found: Entry, title: str, shown: Shown) -> None:
    """The live picture, and the sentence on what to see in it."""
    alt = f"{title}. The table below holds the same."
    st.plotly_chart(shown.figure, key=f"lesson{found.number}", config=base.CONFIG, alt=alt)
    st.markdown(shown.said)


def keep(found: Entry, title: str, shown: Shown) -> None:
    """The picture as a file for slides and as a table, and the next lesson."""
    key = f"lesson{found.number}"
    following = next((other for other in CONTENTS if other.number > found.number), None)
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        st.download_button(
            "Download this picture",
            lambda: html(shown.figure, title),
            file_name=f"{found.text}.html",
            mime="text/html",
            icon=":material/download:",
            type="tertiary",
            key=f"{key}_picture",
            on_click="ignore",
            help="A web page that shows the picture live, offline too. For an image (SVG), use the camera that appears "
            "at the picture's upper right.",
        )
        with st.container():
            widgets.table_of(shown.rows, key, "The picture as a table")
        if following is not None:
            label = f"Next: {following.short}"
            pressed = st.button(
                label, icon=":material/arrow_forward:", key="next", on_click=choose, args=(following.number,)
            )
            if pressed:
                st.rerun()  # the whole page: a click here runs only this part of it


def html(figure: go.Figure, title: str) -> bytes:
    """A page that holds the picture and everything it needs to be drawn without a network."""
    alone = go.Figure(figure)
    alone.update_layout(title={"text": title}, margin={"t": 90}, paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
    text: str = alone.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return text.encode()


def onward(lesson: Lesson, text: texts.Text) -> None:
    """Where to see it in one's own run."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(text.sections["In your run"], width="content")
        for see in lesson.see:
            lessonlinks.draw(see)


def choose(number: int) -> None:
    """Open another lesson; what the address says about this one goes."""
    st.session_state["lesson_left"] = True
    st.session_state["lesson"] = number
    st.query_params["lesson"] = str(number)


def named() -> Entry:
    """The lesson of the address, the first one where it names none that there is (and says so)."""
    raw = st.query_params.get("lesson", str(CONTENTS[0].number))
    found = entry(raw)
    if found is None:
        last = f"{CONTENTS[0].number} to {CONTENTS[-1].number}"
        st.info(
            f"There is no lesson “{plain.text(short(raw))}”; there are {last}. Here is the first.",
            icon=":material/link:",
        )
        st.query_params["lesson"] = str(CONTENTS[0].number)
    return found or CONTENTS[0]


def view() -> str:
    """Lessons, glossary or notes for teachers: kept in the address."""
    names = {LESSONS: "Lessons", GLOSSARY: "Glossary", TEACHERS: "For teachers"}
    options: list[str] = list(names)
    raw = st.query_params.get("view", LESSONS)
    if raw not in names:
        st.info(f"There is no view “{plain.text(short(raw))}” here: these are the lessons.", icon=":material/link:")
    current = raw if raw in names else LESSONS
    st.session_state["learn_view"] = current
    chosen = st.segmented_control(
        "View", options, key="learn_view", required=True, format_func=names.__getitem__, on_change=_viewed,
        label_visibility="collapsed",
    )  # fmt: skip
    return chosen or LESSONS


def _viewed() -> None:
    chosen = st.session_state["learn_view"]
    if chosen == LESSONS:
        st.query_params.pop("view", None)
    else:
        st.query_params["view"] = chosen
