"""The pages: their files, names, and the question each answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import streamlit as st

from app import plain

ROOT = Path(__file__).resolve().parent.parent
Query = Mapping[str, str | list[str]]
SetUp = Callable[[str], Query]
"""A run's id → the address that sets up the Budget page with its budget (:func:`app.setup.query`)."""


@dataclass(frozen=True)
class PageInfo:
    """One page: ``name`` is its file in ``pages/`` and its address; ``question`` is its headline."""

    name: str
    title: str
    icon: str
    question: str


PAGES = {
    info.name: info
    for info in (
        PageInfo("start", "Start", ":material/home:", "Make a neural network smaller, and see what it costs"),
        PageInfo("model", "Model", ":material/deployed_code:", "What is in this network, and how good is it?"),
        PageInfo("groups", "Groups", ":material/account_tree:", "Which channels must go together?"),
        PageInfo("budget", "Budget", ":material/tune:", "How small should it become?"),
        PageInfo("runs", "Runs", ":material/monitoring:", "What does smaller cost?"),
        PageInfo("compare", "Compare", ":material/scatter_plot:", "Which compressed model should I take?"),
        PageInfo("explain", "Explain", ":material/visibility:", "What does the compressed model look at?"),
        PageInfo("export", "Export", ":material/inventory_2:", "What is in the exported file?"),
        PageInfo("learn", "Learn", ":material/school:", "How does it work?"),
    )
}


def page(name: str) -> Any:
    """Streamlit's page object; equal names give equal pages."""
    info = PAGES[name]
    path = ROOT / "pages" / f"{name}.py"
    return st.Page(
        path, title=info.title, icon=info.icon, default=name == "start", url_path=None if name == "start" else name
    )


def go(name: str, **query: str | list[str]) -> NoReturn:
    """Leave for another page, with what it shall open in the address."""
    st.switch_page(page(name), query_params=query)
    raise AssertionError("switch_page does not return")


def link(name: str, label: str, explained: str = "", /, **query: str | list[str]) -> None:
    """A link to another page, its label plain text; with a tooltip (Markdown) where there is something to explain."""
    st.page_link(page(name), label=plain.text(label), icon=PAGES[name].icon, query_params=query, help=explained or None)
