"""The gallery as the pages use it: read once, shared by all tabs, never written. Nothing here needs torch."""

from __future__ import annotations

import streamlit as st

from app import nav
from app.figures.candidates import Candidate
from app.runs import view_model
from compression.runs import gallery as library
from compression.runs.gallery import Exhibit, Gallery, is_gallery
from compression.runs.store import RunInfo

ROOT = nav.ROOT / "assets" / "gallery"

__all__ = [
    "ROOT",
    "Exhibit",
    "Gallery",
    "candidate",
    "data_label",
    "exhibits",
    "find",
    "infos",
    "is_gallery",
    "read",
    "title",
]


def read() -> Gallery:
    """All collections, as they were when the app was started."""
    return _read(str(ROOT))


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(root: str) -> Gallery:
    return library.read(root)


def exhibits() -> tuple[Exhibit, ...]:
    """Every run of the gallery that a page can open, sweeps and their parts included."""
    return read().exhibits


def find(run: str) -> Exhibit:
    """The exhibit of this name.

    Raises:
        CompressionError: there is none.
    """
    return read().find(run)


def infos(like: str = "") -> list[RunInfo]:
    """The gallery as rows of the list of runs; only the collection of the run ``like`` where one is named."""
    beside = find(like).collection if like else ""
    return [exhibit.info for exhibit in exhibits() if not like or exhibit.collection == beside]


def data_label(info: RunInfo) -> str:
    """The data set of a run in a few words; of the gallery's the full title, such as CIFAR-10 (JPEG-75)."""
    return find(info.id).data if is_gallery(info.id) else view_model.data_label(info.data)


def title(exhibit: Exhibit) -> str:
    """What a run of the gallery is called in lists: its name first, since several may have asked the same."""
    asked = f"sweep of {exhibit.info.runs} runs" if exhibit.info.runs else view_model.asked(exhibit.info.budget)
    return f"{exhibit.name}: {asked}"


def candidate(exhibit: Exhibit) -> Candidate | None:
    """The run as one to choose from on Compare; nothing for a sweep."""
    if exhibit.final is None:
        return None
    label = f"{view_model.asked(exhibit.info.budget)} (gallery: {exhibit.name})"
    return Candidate(exhibit.info.id, label, exhibit.info.method, exhibit.baseline, exhibit.final)
