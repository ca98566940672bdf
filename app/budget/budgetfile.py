"""The budget as a file: save it, load one."""

from __future__ import annotations

import json

import streamlit as st

from app import plain, widgets
from app.budget import budget_upload
from app.terms import tip
from compression.budget import Budget
from compression.errors import CompressionError


def draw(budget: Budget) -> None:
    """Save and load the budget as JSON."""
    st.download_button(
        "Save JSON",
        json.dumps(budget.replace(weights=None).to_dict(), indent=2),
        file_name="budget.json",
        mime="application/json",
        icon=":material/download:",
        on_click="ignore",
    )
    explained = "A JSON file saved here, written for the command line, or budget.json or config.json out of a bundle."
    st.file_uploader(
        "Load a budget", type=["json"], max_upload_size=5, key="upload", on_change=_uploaded, help=tip(explained)
    )
    if note := st.session_state.pop("upload_note", ""):
        st.info(plain.text(note), icon=":material/info:")
    if refused := st.session_state.pop("upload_problem", None):
        widgets.problem(refused)


def _uploaded() -> None:
    file = st.session_state.get("upload")
    if file is None:
        return
    try:
        st.session_state["upload_note"] = budget_upload.load(file.getvalue())
    except CompressionError as error:
        st.session_state["upload_problem"] = error
