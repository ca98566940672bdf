"""The glossary: every term of the field and of the pages, each with an address (``?view=glossary&term=unit``)."""

from __future__ import annotations

import re

import streamlit as st

from app import plain
from app.terms import Term, everything
from lessons import sources


def matching(terms: list[Term], search: str) -> list[Term]:
    """The terms whose name or explanation holds the search, those with it in their name first."""
    part = search.strip().lower()
    named = [term for term in terms if part in term.name.lower()]
    return named + [term for term in terms if term not in named and part in f"{term.explanation} {term.also}".lower()]


def linked(text: str) -> str:
    """Lessons named in a text as links that open them."""
    return re.sub(r"\b(Lesson|Lessons) (\d+)\b", r"[\1 \2](learn?lesson=\2)", text)


def entry(term: Term) -> str:
    """What an entry says, and where it comes from (Markdown)."""
    source = f"\n\n:small[Source: {sources.linked(term.source)}]" if term.source else ""
    return linked(term.explanation) + source


def draw() -> None:
    """A search field and the terms; above them the one that the address names."""
    terms = everything()
    search = st.text_input(
        "Find a term", key="term_search", placeholder="part of a word", width=400, icon=":material/search:"
    )
    anchor = st.query_params.get("term", "")
    known = next((term for term in terms if term.anchor == anchor.lower()), None)
    if known is not None and not search:
        with st.container(border=True):
            st.markdown(f"#### {known.name}\n\n{entry(known)}")
    elif anchor and known is None:
        st.info(f"The glossary has no “{plain.text(anchor[:60])}”. Here are all its terms.", icon=":material/link:")
    shown = matching(terms, search) if search else terms
    if not shown:
        st.info(f"No term holds “{plain.text(search[:60])}”.", icon=":material/search_off:")
    half = -(-len(shown) // 2)
    for column, part in zip(st.columns(2, gap="large"), (shown[:half], shown[half:]), strict=True):
        with column:
            for term in part:
                st.markdown(f"##### {term.name}\n\n{entry(term)}")
