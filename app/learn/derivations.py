"""The derivations of the project, each with an address (``?view=derivations&derivation=opq``)."""

from __future__ import annotations

import streamlit as st

from app import plain, state, widgets
from compression.reading import cut
from lessons import sources

KEY = "derivation"


def draw() -> None:
    """A list to choose from, and the derivation that the address names; the first one where it names none."""
    titles = sources.derivations()
    named = st.query_params.get(KEY, "")
    if named and named not in titles:
        st.info(f"There is no derivation “{plain.text(cut(named))}”. Here is the first.", icon=":material/link:")
    current = named if named in titles else next(iter(titles))
    widgets.choice("Derivation", titles, current, "chosen_derivation", lambda name: state.address(KEY, name), width=400)
    st.markdown(sources.derivation(current))
