"""Components of the project's own, for Streamlit: what is in ``assets/components``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "components"
PARTS = ("html", "css", "js")


def component(name: str, isolated: bool = True) -> Any:
    """The component of that name; call it once for the whole server. ``isolated``: no style of the page reaches it."""
    html, css, js = ((FOLDER / f"{name}.{part}").read_text(encoding="utf-8") for part in PARTS)
    return st.components.v2.component(name, html=html, css=css, js=js, isolate_styles=isolated)
