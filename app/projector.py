"""Larger text, for a class that looks at a wall: ``?projector=1``, which every page keeps in its address."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from app import state
from app.terms import tip
from compression.plots import fonts

STYLE = Path(__file__).resolve().parent.parent / "assets" / "theme" / "projector.css"
LARGER = 1.3
"""How many times as large text is; ``projector.css`` says the same of the page."""


def is_on() -> bool:
    """Does the address ask for larger text?"""
    return state.get("projector") == "1"


def style() -> None:
    """The rules that enlarge the text of a page, while they are asked for."""
    if is_on():
        st.html(STYLE)


def figure(fig: go.Figure) -> go.Figure:
    """The figure, or one with larger text."""
    return fonts.enlarged(fig, LARGER) if is_on() else fig


def switch() -> None:
    """The control; the address follows."""
    st.session_state["projector"] = is_on()
    text = "Text that a class can read from the last row, here and on all charts: `?projector=1` in the address."
    st.toggle("Projector", key="projector", on_change=_switched, help=tip(text))


def _switched() -> None:
    state.put("projector", "1" if st.session_state["projector"] else "")
