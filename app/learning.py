"""The Learn page: which lesson the address names, its controls, picture, formula and exercise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import nav
from app import state
from app import widgets
from app.figures import base
from app.lessons import answers
from app.lessons import texts
from app.lessons.answers import Answer
from app.lessons.answers import Pick
from app.lessons.fields import Field
from app.lessons.fields import Several
from app.lessons.fields import Slider
from app.lessons.lesson import CONTENTS
from app.lessons.lesson import Entry
from app.lessons.lesson import Lesson
from app.lessons.lesson import Shown
from app.lessons.lesson import entry

LESSONS, GLOSSARY, TEACHERS = "lessons", "glossary", "teachers"
OWN = ("lesson", "view", "term")
FEW_OPTIONS = 7  # offered as pills; more as a list
LONGEST = 60


def draw(found: Entry) -> None:
    """A lesson from top to bottom; moving one of its controls runs only this again."""
    lesson, text = found.load(), texts.read(found.text)
    left, right = st.columns([4, 9], gap="large")
    with left:
        st.subheader(f"{found.number}. {text.title}", anchor=False)
        idea = st.container()
        values = controls(found, lesson)
    shown = lesson.show(values)
    idea.markdown(texts.fill(text.idea, shown.facts))
    with right:
        alt = f"{text.title}. The table below holds the same."
        st.plotly_chart(shown.figure, key=f"lesson{found.number}", config=base.CONFIG, alt=alt)
        st.markdown(shown.said)
        formula, asked = st.columns([6, 5], gap="medium")
        formula.markdown(texts.fill(text.sections["Formula"], shown.facts))
        with asked.container(border=True):
            exercise(found, text, lesson.answer(), shown.facts)
        keep(found, text.title, shown)
    onward(found, lesson, text)


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
        values[field.key] = _drawn(field, key)
    problems += _strangers({field.key for field in lesson.fields(values)})
    for field in lesson.fields(values):
        _written(field, values[field.key])
    if problems:
        st.info(" ".join(problems), icon=":material/link:")
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
    return [f"The address asks for {field.key} “{_short(raw)}”; there is {field.allowed}. The lesson begins as usual."]


def _fits(field: Field, value: Any) -> bool:
    if isinstance(field, Slider):
        return isinstance(value, (int, float)) and field.low <= value <= field.high
    return isinstance(field, Several) or value in field.options


def _first(field: Field) -> Any:
    return list(field.default) if isinstance(field, Several) else field.default


def _drawn(field: Field, key: str) -> Any:
    explained = field.help or None
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


def _strangers(known: set[str]) -> list[str]:
    """What the address names besides: said once, then taken out; another lesson's values go without a word."""
    unknown = [name for name in st.query_params if name not in {*known, *OWN, *state.DEFAULTS}]
    for name in unknown:
        del st.query_params[name]
    foreign = [name for name in unknown if not st.session_state.get("lesson_left")]
    st.session_state["lesson_left"] = False
    return [f"This lesson has no “{_short(foreign[0])}”, which the address names: it is left out."] if foreign else []


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def keep(found: Entry, title: str, shown: Shown) -> None:
    """The picture as a table, and as a file for slides."""
    key = f"lesson{found.number}"
    widgets.table_of(shown.rows, key, "The picture as a table")
    st.download_button(
        "Download this picture",
        lambda: html(shown.figure, title),
        file_name=f"{found.text}.html",
        mime="text/html",
        icon=":material/download:",
        type="tertiary",
        key=f"{key}_picture",
        on_click="ignore",
        help="A web page that shows the picture live, offline too. For an image (SVG), use the camera that appears at "
        "the picture's upper right.",
    )


def html(figure: go.Figure, title: str) -> bytes:
    """A page that holds the picture and everything it needs to be drawn without a network."""
    alone = go.Figure(figure)
    alone.update_layout(title={"text": title}, margin={"t": 90}, paper_bgcolor="#ffffff", plot_bgcolor="#ffffff")
    text: str = alone.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return text.encode()


def exercise(found: Entry, text: texts.Text, answer: Answer, facts: Mapping[str, str]) -> None:
    """The question, the field, and what is said about the answer."""
    key = f"exercise{found.number}"
    with st.form(key, border=False):
        st.markdown("**:material/quiz: Exercise.** " + texts.fill(text.sections["Exercise"], facts))
        with st.container(horizontal=True, vertical_alignment="bottom"):
            given = _field(answer, key)
            pressed = st.form_submit_button("Check", icon=":material/done_all:")
        if pressed:
            verdict = answers.judge(given, answer)
            _tell(verdict, texts.fill(text.sections["Hint"], facts), texts.fill(text.sections["Answer"], facts))


def _field(answer: Answer, key: str) -> str | None:
    if isinstance(answer, Pick):
        shown = answer.options.__getitem__
        if len(answer.options) > FEW_OPTIONS:
            return st.selectbox("Your answer", list(answer.options), index=None, format_func=shown, key=f"{key}_answer")
        return st.radio("Your answer", list(answer.options), index=None, format_func=shown, key=f"{key}_answer")
    label = f"Your answer, {answer.unit}" if answer.unit else "Your answer"
    return st.text_input(label, key=f"{key}_answer", max_chars=200, width=300, placeholder="a number")


def _tell(verdict: answers.Verdict, hint: str, why: str) -> None:
    if verdict.kind == answers.UNREADABLE:
        st.info(verdict.said, icon=":material/edit:")
    elif verdict.kind == answers.WRONG:
        st.warning(f"Not quite. {hint}", icon=":material/lightbulb:")
    else:
        st.success(f"Right. {why}", icon=":material/check:")


def onward(found: Entry, lesson: Lesson, text: texts.Text) -> None:
    """Where to see it on one's own model, and the next lesson."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.markdown(text.sections["In your run"], width="content")
        for page, label, query in (lesson.see, *lesson.also):
            if page in nav.PAGES:
                nav.link(page, label, **{"model": state.get("model"), "data": state.get("data"), **query})
        following = next((other for other in CONTENTS if other.number > found.number), None)
        if following is not None:
            label = f"Next: {following.short}"
            st.button(label, icon=":material/arrow_forward:", key="next", on_click=lambda: choose(following.number))


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
        st.info(f"There is no lesson “{_short(raw)}”; there are {last}. Here is the first.", icon=":material/link:")
        st.query_params["lesson"] = str(CONTENTS[0].number)
    return found or CONTENTS[0]


def view() -> str:
    """Lessons, glossary or notes for teachers: kept in the address."""
    names = {LESSONS: "Lessons", GLOSSARY: "Glossary", TEACHERS: "For teachers"}
    options: list[str] = list(names)
    raw = st.query_params.get("view", LESSONS)
    if raw not in names:
        st.info(f"There is no view “{_short(raw)}” here: these are the lessons.", icon=":material/link:")
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
