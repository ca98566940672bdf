"""Which runs a report is of: the user's, those of the gallery, sweeps as their runs, and those that are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression import zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.home import ROOT
from compression.plots import words
from compression.runs import gallery, labels
from compression.runs.folder import DONE, RunFolder
from compression.runs.resultfile import written
from compression.runs.results import result
from compression.tasks import Metric

if TYPE_CHECKING:
    from compression.graph import Graph

GALLERY = ROOT / "assets" / "gallery"
Trace = Callable[[Budget], "Graph | None"]
"""The graph of a budget's dense network; ``None`` where it is not at hand."""


@dataclass(frozen=True)
class Source:
    """A finished run: its folder and its result. Where it cannot be reported, only its ``id`` and the ``problem``."""

    id: str
    folder: RunFolder | None = None
    result: Mapping[str, Any] | None = None
    problem: str = ""

    @property
    def shipped(self) -> bool:
        """Is this a run of the gallery?"""
        return gallery.is_gallery(self.id)


@cache
def _shipped() -> gallery.Gallery:
    return gallery.read(GALLERY)


def collect(runs: Iterable[str], root: str | Path, shipped: Callable[[], gallery.Gallery] = _shipped) -> list[Source]:
    """The named runs of a runs folder ``root`` or of the gallery; each once, sweeps as their runs.

    Runs that are gone, damaged or not done are there with the reason. ``shipped`` is called where one of the gallery is
    named.
    """
    listed: dict[str, Source] = {}
    for run in runs:
        try:
            folders = _exhibits(shipped(), run) if gallery.is_gallery(run) else RunFolder.open(root, run).parts()
        except CompressionError as error:
            listed.setdefault(run, Source(run, problem=without_folder(error.what, root)))
            continue
        for folder in folders:
            listed.setdefault(folder.id, source(folder))
    return list(listed.values())


def _exhibits(shown: gallery.Gallery, run: str) -> list[RunFolder]:
    exhibit = shown.find(run)
    parts = shown.parts(run) if exhibit.info.runs else [exhibit]
    return [part.folder() for part in parts]


def source(folder: RunFolder) -> Source:
    """A run as a source: finished, or with what it lacks."""
    try:
        if gallery.is_gallery(folder.id):  # its results were brought up to date since its events were written
            return Source(folder.id, folder, written(folder.result_path))
        stored = result(folder)
        if stored["status"] != DONE or not stored.get("final") or not stored.get("baseline"):
            return Source(folder.id, problem=without_folder(_so_far(folder, stored), folder.path.parent))
        return Source(folder.id, folder, stored)
    except CompressionError as error:
        return Source(folder.id, problem=without_folder(error.what, folder.path.parent))


def without_folder(text: str, root: str | Path) -> str:
    """A message without the path of the runs folder: whoever gets it has other folders, and need not know these."""
    for path in (str(root), str(Path(root).resolve())):
        text = text.replace(f"{path}/", "")
    return text


def _so_far(folder: RunFolder, stored: Mapping[str, Any]) -> str:
    """What is known of a run that is not done: its state, why it stopped, and its latest point."""
    name = labels.read(folder).name
    text = f"{name}: {stored['status']}, not done" if name else f"{stored['status']}, not done"
    if stored.get("error"):
        text += f" ({stored['error']})"
    points = [point for point in stored.get("points", ()) if point["phase"] != "baseline"]
    if not points:
        return f"{text}; nothing is measured yet"
    last, metric = points[-1], Metric.from_result(stored)
    size = f"{words.size(last['bytes'])}{' (estimated)' if last.get('bytes_kind') == 'estimated' else ''}"
    return f"{text}; after step {last['step']:,}: {size}, {metric.show(last['score'])} {last['split']} {metric.label}"


def traced(budget: Budget) -> Graph | None:
    """The graph of a model by name; of a function in a user's file none: a report runs no code of a run's."""
    if zoo.is_file(budget.model):
        return None
    try:
        spec = zoo.spec(budget.model)
        return _traced(budget.model, budget.input or spec.input, budget.classes or spec.classes)
    except CompressionError:  # its package is not installed: the layers are shown without their dense shapes
        return None


@cache
def _traced(model: str, input: tuple[int, ...], classes: int) -> Graph:
    from compression.graph import trace

    return trace(zoo.build(model, input, classes), zoo.example(model, input=input))
