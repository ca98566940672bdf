"""The glossary: every term of the field and of the pages, with an address of its own (``?view=glossary&term=unit``)."""

from __future__ import annotations

import re

import streamlit as st

from app import plain
from app.terms import Term, everything


def matching(found: list[Term], search: str) -> list[Term]:
    """The terms whose name or explanation holds the search, those with it in their name first."""
    wanted = search.strip().lower()
    named = [term for term in found if wanted in term.name.lower()]
    return named + [term for term in found if term not in named and wanted in f"{term.said} {term.also}".lower()]


def linked(said: str) -> str:
    """Lessons named in a text as links that open them."""
    return re.sub(r"\b(Lesson|Lessons) (\d+)\b", r"[\1 \2](learn?lesson=\2)", said)


def draw() -> None:
    """A search field and the terms; the one that the address names stands first."""
    found = everything()
    search = st.text_input(
        "Find a term", key="term_search", placeholder="part of a word", width=400, icon=":material/search:"
    )
    asked = st.query_params.get("term", "")
    known = next((term for term in found if term.anchor == asked.lower()), None)
    if known is not None and not search:
        with st.container(border=True):
            st.markdown(f"#### {known.name}\n\n{linked(known.said)}")
    elif asked and known is None:
        st.info(f"The glossary has no “{plain.text(asked[:60])}”. Here are all its terms.", icon=":material/link:")
    shown = matching(found, search) if search else found
    if not shown:
        st.info(f"No term holds “{plain.text(search[:60])}”.", icon=":material/search_off:")
    left, right = st.columns(2, gap="large")
    half = -(-len(shown) // 2)
    for column, part in ((left, shown[:half]), (right, shown[half:])):
        with column:
            for term in part:
                st.markdown(f"##### {term.name}\n\n{linked(term.said)}")
