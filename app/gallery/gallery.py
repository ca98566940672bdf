"""The gallery as the pages use it: read once, shared by all tabs, never written."""

from __future__ import annotations

import streamlit as st

from app import names, nav
from compression import data as datasets
from compression.plots import seeds
from compression.plots.candidates import Candidate
from compression.plots.front_data import FrontRun
from compression.runs import gallery as library
from compression.runs.gallery import Exhibit, Gallery, is_gallery
from compression.runs.store import RunInfo

ROOT = nav.ROOT / "assets" / "gallery"

__all__ = [
    "ROOT",
    "Exhibit",
    "Gallery",
    "candidate",
    "comparable",
    "data_label",
    "exhibits",
    "find",
    "front_run",
    "infos",
    "is_gallery",
    "read",
    "request",
    "subject",
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
    """The data set of a run in a few words; of the gallery, of other files than those here: as it names them."""
    return names.data_label(info.data) if comparable(info) else find(info.id).data


def comparable(info: RunInfo) -> bool:
    """Was a run made on what its data set's name means on this machine? The user's own were.

    CIFAR-10 may be here in its own files while the gallery's runs are of CIFAR-10 (JPEG-75): other images.
    """
    if not is_gallery(info.id) or info.data not in datasets.names():
        return True
    return datasets.info(info.data).files in ("", find(info.id).data)


def subject(info: RunInfo) -> str:
    """Model and data of a run in a few words."""
    return f"{names.model_label(info.model)} on {data_label(info)}"


def title(exhibit: Exhibit) -> str:
    """What a run of the gallery is called in lists: its name first, since several may have the same request."""
    return f"{exhibit.name}: {request(exhibit)}"


def request(exhibit: Exhibit) -> str:
    """What its budget asks for, or how many runs a sweep has."""
    runs = exhibit.info.runs
    return f"sweep of {runs} runs" if runs else names.request(exhibit.info.budget)


def candidate(exhibit: Exhibit) -> Candidate | None:
    """The run as one to choose from on Compare; nothing for a sweep."""
    if exhibit.final is None:
        return None
    info, ends = exhibit.info, (exhibit.baseline, exhibit.final)
    label = f"{names.request(info.budget)} (gallery: {exhibit.name})"
    return Candidate(info.id, label, info.method, *ends, **seeds.identity(info.budget), shipped=True)


def front_run(exhibit: Exhibit) -> FrontRun:
    """The run as one of the front: where it started and ended."""
    info = exhibit.info
    ends = (exhibit.baseline, exhibit.final)
    return FrontRun(info.id, names.request(info.budget), info.method, (), *ends, shipped=True)
