"""Where a method comes from and which lesson explains it: its paper, and a link to the Learn page."""

from __future__ import annotations

import streamlit as st

from app import nav, plain
from compression import methods
from lessons import contents


def entry(method: str) -> contents.Entry | None:
    """The lesson that a method names; ``None`` for methods that are not installed, and lessons that are not there."""
    described = methods.all_methods().get(method)
    name = described.info.lesson if described is not None else None
    return next((each for each in contents.CONTENTS if each.name == name), None)


def sources(method: str) -> None:
    """A link to that lesson, and the paper; nothing of what the method does not have."""
    described, chosen = methods.all_methods().get(method), entry(method)
    paper = described.info.paper if described is not None else None
    if chosen is None and not paper:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if chosen is not None:
            title = contents.text(chosen.name)["Title"]
            nav.link("learn", f"Lesson {chosen.number}: {title}", lesson=str(chosen.number))
        if paper:
            st.caption(_linked(paper), width="content")


def _linked(paper: str) -> str:
    """A paper of arXiv as a link to it, any other as its name."""
    number = paper.removeprefix("arXiv ")
    return f"[{paper}](https://arxiv.org/abs/{number})" if number != paper else plain.text(paper)
