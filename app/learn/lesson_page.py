"""The Learn page: which lesson the address names, its controls, figure, formula and exercise."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from app import nav, plain, state, widgets
from app.gallery import gallery
from app.learn.controls import controls, forget
from app.learn.exercises import exercise
from app.runs import runlog
from compression.errors import CompressionError
from compression.reading import cut
from lessons import contents, sources
from lessons.contents import CONTENTS, Entry, fill
from lessons.lesson import Link, View

LESSONS, GLOSSARY, DERIVATIONS, TEACHERS = "lessons", "glossary", "derivations", "teachers"
VIEWS = {LESSONS: "Lessons", GLOSSARY: "Glossary", DERIVATIONS: "Derivations", TEACHERS: "Teachers"}
TITLE = 60
"""Pixels above the legend for the title of a picture that stands alone."""


def draw(entry: Entry) -> None:
    """A lesson on one screen, its parts placed by ``app.css``; moving one of its controls runs only this again."""
    lesson = entry.load()
    with st.container(key="lesson_parts"):
        idea = st.container(key="lesson_idea", gap="small")
        with st.container(key="lesson_controls", gap="small"):
            values = controls(entry, lesson)
        picture, side, formula, tools = (
            st.container(key=f"lesson_{part}", gap="small") for part in ("picture", "side", "formula", "tools")
        )
    view = lesson.show(values)
    words = {part: fill(text, view.facts) for part, text in contents.text(entry.name).items()}
    with idea:
        st.subheader(f"{entry.number}. {words['Title']}", anchor=False)
        st.markdown(words["Idea"])
    with picture:
        alt = f"{words['Title']}. The table below holds the same."
        widgets.plot(view.figure, f"lesson{entry.number}", alt, live=True)
        st.markdown(view.caption)
    with side:
        with st.container(key="lesson_exercise", border=True):
            exercise(entry, words, lesson.answer())
        with st.container(key="lesson_onward", gap="small"):
            _onward(entry, words["In your run"], lesson.links)
    with formula:
        st.markdown(words["Formula"])
        st.caption(f"Source: {sources.linked(words['Source'], titles=True)}")
    with tools:
        _tools(entry, words["Title"], view)


def _onward(entry: Entry, words: str, links: Sequence[Link]) -> None:
    """Where the pages show the same, and the next lesson."""
    st.markdown(words)
    for link in links:
        query, whose = target(link)
        nav.link(link.page, link.label.format(run=whose), **query)
    if entry is not CONTENTS[-1]:
        label, args = f"Next: {CONTENTS[entry.number].short}", (entry.number + 1,)
        if st.button(label, icon=":material/arrow_forward:", key="next", on_click=choose, args=args):
            st.rerun()  # the whole page: a click here runs only this part of it


def _tools(entry: Entry, title: str, view: View) -> None:
    """The figure as a file for slides and as a table."""
    key = f"lesson{entry.number}"
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        st.download_button(
            "Download this picture",
            lambda: html(view.figure, title),
            file_name=f"{entry.number:02d}-{entry.name}.html",
            mime="text/html",
            icon=":material/download:",
            type="tertiary",
            key=f"{key}_picture",
            on_click="ignore",
            help="A web page that shows the picture live, offline too. For an image (SVG), use the camera that appears "
            "at the picture's upper right.",
        )
        with st.container():
            widgets.table_of(view.rows, key, "The picture as a table")


def html(figure: go.Figure, title: str) -> bytes:
    """A page that holds the figure and everything it needs to be drawn without a network."""
    alone = go.Figure(figure)
    height, heading = alone.layout.height, {"text": title, "yref": "container", "y": 0.98, "yanchor": "top"}
    alone.update_layout(title=heading, legend={"y": 1 - TITLE / (height + TITLE)}, height=height + TITLE)
    alone.update_layout(margin={"t": 90}, paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
    text: str = alone.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return text.encode()


def target(link: Link) -> tuple[dict[str, str], str]:
    """The address of a link, and whose run it opens in words: the chosen one where it fits, else one of the gallery."""
    if not link.run:
        return {"model": state.get("model"), "data": state.get("data"), **link.query}, ""
    chosen = state.get("run")
    fits = bool(chosen) and _fits(link, chosen)
    run = chosen if fits else link.run
    budget = runlog.folder(run).spec()["budget"]
    address = {**link.query, "model": str(budget["model"]), "data": str(budget["data"]), "run": run}
    return address, "your run" if fits else "a finished run"


def _fits(link: Link, run: str) -> bool:
    """Is it there, of a method the lesson is about, and with its model where the page needs one?"""
    try:
        method = runlog.folder(run).spec()["budget"]["method"]
        has_model = not gallery.is_gallery(run) or gallery.find(run).whole
    except CompressionError:
        return False
    return (not link.methods or method in link.methods) and (has_model or not link.whole)


def choose(number: int) -> None:
    """Open another lesson; what the address says about this one is removed."""
    forget()
    st.session_state["lesson"] = number
    st.query_params["lesson"] = str(number)


def named() -> Entry:
    """The lesson of the address, the first one where it names none that there is (and says so)."""
    first, last = CONTENTS[0], CONTENTS[-1]
    raw = st.query_params.get("lesson", str(first.number))
    entry = next((each for each in CONTENTS if str(each.number) == raw.strip()), None)
    if entry is None:
        message = f"There is no lesson “{plain.text(cut(raw))}”; there are {first.number} to {last.number}."
        st.info(f"{message} Here is the first.", icon=":material/link:")
        st.query_params["lesson"] = str(first.number)
    return entry or first


def steps(entry: Entry) -> None:
    """The way through the lessons: the one before, a list of all, the one after."""
    st.session_state["lesson"] = entry.number
    titles = {each.number: f"{each.number}. {contents.title(each.name)}" for each in CONTENTS}
    _step("Previous", entry.number - 1)
    st.selectbox(
        "Lesson",
        list(titles),
        key="lesson",
        format_func=titles.__getitem__,
        on_change=lambda: choose(st.session_state["lesson"]),
        label_visibility="collapsed",
    )
    _step("Next", entry.number + 1)


def _step(label: str, number: int) -> None:
    none = not 1 <= number <= len(CONTENTS)
    st.button(label, key=f"lesson_{label.lower()}", on_click=choose, args=(number,), disabled=none)


def view() -> str:
    """Lessons, glossary or notes for teachers: stored in the address."""
    raw = st.query_params.get("view", LESSONS)
    if raw not in VIEWS:
        st.info(f"There is no view “{plain.text(cut(raw))}” here: these are the lessons.", icon=":material/link:")
    return raw if raw in VIEWS else LESSONS


def views(current: str) -> None:
    """The control that changes the view."""
    st.session_state["learn_view"] = current
    st.segmented_control(
        "View", list(VIEWS), key="learn_view", required=True, format_func=VIEWS.__getitem__, on_change=_view_changed,
        label_visibility="collapsed",
    )  # fmt: skip


def _view_changed() -> None:
    chosen = st.session_state["learn_view"]
    state.address("view", "" if chosen == LESSONS else chosen)
