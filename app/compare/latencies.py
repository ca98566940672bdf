"""How long a finished run's exported files take for one example, where an export has measured it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.gallery import gallery
from app.runs import runlog
from compression.errors import CompressionError
from compression.jobs import export_run
from compression.plots.axes import LATENCY, PointDict
from compression.runs import gallery as library
from compression.runs.folder import RunFolder
from compression.runs.index import UNREADABLE


@dataclass(frozen=True)
class Measured:
    """Median milliseconds for one example: of the dense model, and of the fastest of the run's files."""

    dense: float
    fastest: float


def measured(run: str) -> Measured | None:
    """The latencies that the run's export measured; ``None`` where there is none, or it cannot be read."""
    try:
        shipped = gallery.is_gallery(run)
        place = library.copied(gallery.find(run), runlog.store().root) if shipped else runlog.folder(run)
    except CompressionError:
        return None  # deleted meanwhile; opening it reports that
    if place is None or not export_run.bundle_path(place).is_file():
        return None
    return _read(str(place.path.resolve()), export_run.bundle_path(place).stat().st_mtime)


@st.cache_data(max_entries=256, show_spinner=False)
def _read(path: str, changed: float) -> Measured | None:
    try:
        facts = export_run.status(RunFolder(Path(path))).result
        times = [float(variant["median"]) for variant in facts.get("latency", {}).get("variants", ())]
    except UNREADABLE:
        return None  # the Export page says what is wrong with it
    return Measured(times[0], min(times[1:])) if len(times) > 1 else None


def beside(point: PointDict, milliseconds: float) -> PointDict:
    """The point with its latency as one more cost."""
    return {**point, LATENCY: milliseconds}
