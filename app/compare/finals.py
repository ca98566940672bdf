"""What the Compare page reads of runs: where each ended, from the index; the layers of one, from its packed file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import names
from app.compare import latencies
from app.gallery import gallery
from app.model import catalog
from app.runs import runlog
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots import run_view, seeds
from compression.plots.candidates import Candidate
from compression.plots.layers import LayerChange
from compression.report import layers as report_layers
from compression.runs.store import RunInfo
from compression.tasks import ACCURACY, Metric

if TYPE_CHECKING:
    from compression.graph import Graph
    from compression.pack.contents import Stored

Pair = tuple[str, str]


@dataclass(frozen=True)
class ComparedRuns:
    """The runs of one model and one data set: those that can be drawn, and those that cannot with their state."""

    candidates: tuple[Candidate, ...]
    unshown: tuple[RunInfo, ...]

    @property
    def live(self) -> bool:
        """Is a run still going, so that the picture will change?"""
        return any(c.live for c in self.candidates) or any(info.state in run_view.ACTIVE for info in self.unshown)

    def candidate(self, run: str) -> Candidate | None:
        """The candidate of this run."""
        return next((c for c in self.candidates if c.run == run), None)

    def repeated(self) -> bool:
        """Is there more than one seed of anything?"""
        return seeds.repeated(self.candidates)


def pairs(infos: Sequence[RunInfo]) -> dict[Pair, int]:
    """Model and data of all runs with the number of finished ones, those with most first, the newest of equals."""
    counts: dict[Pair, int] = {}
    for info in infos:
        if not info.runs:
            pair = (info.model, info.data)
            counts[pair] = counts.get(pair, 0) + (info.state == "done")
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def compared(infos: Sequence[RunInfo], pair: Pair) -> ComparedRuns:
    """The runs of one model and data set: finished ones with their final points, live ones with their latest."""
    runs = [info for info in infos if not info.runs and (info.model, info.data) == pair]
    ended = [info.id for info in runs if info.state == "done"]
    going = [info.id for info in runs if info.state == "running"]
    store = runlog.store()
    points = {**store.points(*ended, phases=("baseline", "final")), **store.points(*going)}
    candidates = [
        gallery.candidate(gallery.find(info.id))
        if gallery.is_gallery(info.id)
        else _candidate(info, [p.to_dict() for p in points.get(info.id, [])])
        for info in reversed(runs)
    ]
    metric = _metric([info.id for info in runs])
    candidates = [_timed(None if c is None else replace(c, metric=metric)) for c in candidates]
    shown = {c.run for c in candidates if c is not None}
    unshown = tuple(info for info in runs if info.id not in shown)
    return ComparedRuns(tuple(c for c in candidates if c is not None), unshown)


def _metric(runs: Sequence[str]) -> Metric:
    """The metric of the runs of one model and data set: that of the first one that can be read."""
    for run in runs:
        with contextlib.suppress(CompressionError):
            return runlog.metric(run)
    return ACCURACY


def _timed(candidate: Candidate | None) -> Candidate | None:
    """The candidate with its latency, where its export has measured one."""
    times = latencies.measured(candidate.run) if candidate is not None and not candidate.live else None
    if candidate is None or times is None:
        return candidate
    dense = latencies.beside(candidate.baseline, times.dense) if candidate.baseline else None
    return replace(candidate, baseline=dense, point=latencies.beside(candidate.point, times.fastest))


def _candidate(info: RunInfo, points: Sequence[Mapping[str, Any]]) -> Candidate | None:
    """The run as a candidate: a finished one at its final point, a live one at its latest measured point."""
    baseline = next((p for p in points if p["phase"] == "baseline"), None)
    live = info.state == "running"
    later = [p for p in points if (p["phase"] != "baseline" if live else p["phase"] == "final")]
    if not later:
        return None
    label = names.request(info.budget)
    return Candidate(info.id, label, info.method, baseline, later[-1], live, **seeds.identity(info.budget))


def layers(run: str, done: Mapping[str, Any]) -> tuple[LayerChange, ...]:
    """Every layer after compression: shapes from the traced network, the rest from the packed file.

    Of a run without its model (see :func:`has_model`): from the units it removed; ``bytes`` are then nominal.

    Raises:
        CompressionError: the packed file is missing or damaged.
    """
    budget = runlog.folder(run).budget()
    graph = dense_graph(budget)
    if has_model(run):
        return report_layers.stored_layers(packed(run), report_layers.dense_layers(graph) if graph else None, done)
    return report_layers.recorded_layers(graph, done) if graph else ()


def has_model(run: str) -> bool:
    """Did the run leave its compressed model? Some runs of the gallery kept figures only."""
    return not gallery.is_gallery(run) or gallery.find(run).whole


def packed(run: str) -> dict[str, Stored]:
    """The tensors of a run's packed file.

    Raises:
        CompressionError: it is missing or damaged.
    """
    path = runlog.folder(run).bundle / "weights.packed"
    return _packed(str(path.resolve()), path.stat().st_mtime if path.is_file() else 0.0)


@st.cache_resource(max_entries=32, show_spinner="Reading the packed file…")
def _packed(path: str, changed: float) -> dict[str, Stored]:
    from compression.pack.contents import contents

    return contents(path)


def dense_graph(budget: Budget) -> Graph | None:
    """The dense network of a budget, traced; nothing when the model is not offered by this app."""
    model = _offered(budget.model)
    return None if model is None else catalog.traced(catalog.of_budget(budget.replace(model=model))).graph


def _offered(model: str) -> str | None:
    """The model's name if the app may build it: one of its own, or a file that the operator named."""
    try:
        catalog.allow(model, catalog.NO_DATA)
    except CompressionError:
        return None
    return model
