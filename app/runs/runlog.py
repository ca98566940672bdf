"""What the app knows of runs: read from the store and the run folders, stored nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import names, options, state
from app.gallery import gallery
from app.runs import permissions
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots import run_view
from compression.plots.front_data import FrontRun
from compression.plots.seeds import recipe
from compression.reading import expanded
from compression.runs import control, labels
from compression.runs import gallery as library
from compression.runs.eventlog import EventLog
from compression.runs.events import last_attempts
from compression.runs.folder import RunFolder
from compression.runs.resultfile import written
from compression.runs.results import seconds
from compression.runs.store import RunInfo, Store
from compression.tasks import Metric

if TYPE_CHECKING:
    from compression.runs.race import Entry


def store() -> Store:
    """The store of the runs folder this app was started with."""
    return _store(str(expanded(options.read().runs).resolve()))


@st.cache_resource(max_entries=4, show_spinner=False)
def _store(root: str) -> Store:
    return Store(root)


@st.cache_resource(max_entries=64, show_spinner=False)
def _log(path: str) -> EventLog:
    return EventLog(Path(path))


def listed() -> list[RunInfo]:
    """All runs of the user, newest first; the runs of a sweep follow only through :func:`children`."""
    return store().list()


def around(run: str) -> list[RunInfo]:
    """The runs that belong beside this one: its collection for a run of the gallery, else all of the user's."""
    return gallery.infos(like=run) if gallery.is_gallery(run) else listed()


def name(run: str) -> str:
    """What somebody called the run; empty where nobody did, or its labels cannot be read, which the list reports."""
    with contextlib.suppress(CompressionError):
        return labels.read(folder(run)).name
    return ""


def is_gallery(run: str) -> bool:
    """Whether this run came with the app."""
    return gallery.is_gallery(run)


def folder(run: str) -> RunFolder:
    """The folder of a run of the user or of the gallery, to be read.

    Raises:
        CompressionError: there is none.
    """
    if gallery.is_gallery(run):
        return gallery.find(run).folder()
    return RunFolder.open(store().root, run)


def known(*fields: str) -> list[CompressionError]:
    """What is wrong with the runs of the address (``run``, ``other``): a line for each that is not here.

    A name without a run is forgotten; none is picked in its place.
    """
    problems = []
    for chosen in dict.fromkeys(filter(None, map(state.get, fields))):
        try:
            folder(chosen)
        except CompressionError as error:
            problems.append(error)
            for name in fields:
                if state.get(name) == chosen:
                    state.put(name, "")
    return problems


def workplace(run: str) -> RunFolder:
    """The folder in which jobs on a run write: its own, or a copy of it for a run of the gallery.

    Raises:
        CompressionError: there is no such run, or the runs folder cannot be written.
    """
    return library.workplace(gallery.find(run), store().root) if gallery.is_gallery(run) else folder(run)


def view(run: str) -> run_view.RunView:
    """A run so far, as pages show it.

    Raises:
        CompressionError: no such run, or its files cannot be read.
    """
    place = folder(run)
    events = _log(str(place.events_path.resolve())).read()
    budget, state = place.spec()["budget"], place.state_of(events)
    return run_view.run_view(run, state, budget, last_attempts(events), seconds(events), metric(run))


def metric(run: str) -> Metric:
    """What a run is measured by, as its spec has it.

    Raises:
        CompressionError: no such run, or its spec cannot be read.
    """
    return Metric.from_result(folder(run).spec().get("subject") or {})


@st.cache_data(max_entries=64, show_spinner=False)
def _result(path: str, changed: float) -> dict[str, Any]:
    return written(Path(path))


_FIGURES = ("baseline", "final", "ledger")


def outcome(run: str) -> dict[str, Any] | None:
    """The ``result`` JSON of a run that is done, else ``None``; of one with figures missing also ``None``."""
    path = folder(run).result_path
    if not path.is_file():
        return None
    result = _result(str(path.resolve()), path.stat().st_mtime)
    return result if "runs" in result or all(result.get(figures) for figures in _FIGURES) else None


def is_sweep(run: str) -> bool:
    """Is it several runs, even if none of them has begun?"""
    return folder(run).is_sweep


def children(run: str) -> list[str]:
    """The ids of the runs of a sweep in their order, made or not; empty for an ordinary run."""
    if gallery.is_gallery(run):
        return [part.info.id for part in gallery.read().parts(run)]
    return folder(run).child_ids()


def front_runs(opened: Sequence[str], infos: Sequence[RunInfo], model: str, data: str) -> list[FrontRun]:
    """The opened runs and every finished one of the same model and data, as the front needs them."""
    ended = [info for info in infos if info.state == "done" and not info.runs and info.id not in opened]
    context = [info.id for info in ended if info.model == model and info.data == data]
    fronts = [_front_run(run, opened=run in opened) for run in (*opened, *reversed(context))]
    return [front for front in fronts if front is not None]


def _front_run(run: str, opened: bool) -> FrontRun | None:
    try:
        done = outcome(run)
        if done is not None and not opened:
            budget = folder(run).spec()["budget"]
            ends = (done.get("baseline"), done.get("final"))
            place = (run, names.request(budget), str(budget["method"]))
            return FrontRun(*place, (), *ends, metric=Metric.from_result(done))
        now = view(run)
    except CompressionError:
        return None  # a run deleted or damaged while it is only context; opening it reports the error
    ends = (now.baseline, now.final)
    place = (run, names.request(now.budget), now.method)
    same, seed = recipe(now.budget), int(now.budget.get("seed") or 0)
    return FrontRun(*place, now.points, *ends, now.unit, now.metric, recipe=same, seed=seed)


def start(budget: Budget) -> str:
    """Start (or queue) a run and return its id.

    Raises:
        CompressionError: what in the budget cannot be.
    """
    from compression.runs.submit import start as submit

    return submit(budget, store=store())


def sweep(budget: Budget, sparsity: Sequence[float], bits: Sequence[float], least: float | None = None) -> str:
    """Start a sweep over all combinations, or a search for the smallest of score ``least``, and return its id.

    Raises:
        CompressionError: what in the budgets cannot be.
    """
    from compression.runs.bisect import find_smallest
    from compression.runs.sweep import sweep as submit

    if least is not None:
        return find_smallest(budget, least, sparsity, bits, store=store())
    return submit(budget, sparsity, bits, store=store())


def race(entries: Sequence[Entry]) -> str:
    """Start the runs of a race, however many somebody has confirmed, and return its id.

    Raises:
        CompressionError: what in the budgets cannot be.
    """
    from compression.runs.race import start as submit

    return submit(entries, confirmed=True, store=store())


def cancel(run: str) -> None:
    """Ask a run to stop, insist after a few seconds."""
    control.cancel(run, store().root, grace=5.0, store=store())


def pause(run: str) -> None:
    """Ask a run to write a checkpoint and stop; it does so after its present step."""
    control.pause(run, store().root, grace=5.0, store=store())


def resume(run: str) -> None:
    """Let a run that stopped go on.

    Raises:
        CompressionError: its spec cannot be read, or names code or a folder that this app was not started with.
    """
    permissions.check(folder(run).budget())
    control.resume(run, store().root, store=store())


def delete(chosen: Sequence[str]) -> None:
    """Delete runs with all they wrote, as far as they may be deleted.

    Raises:
        CompressionError: one of them goes on or cannot be read; the others are deleted.
    """
    problems: list[str] = []
    control.delete(chosen, store().root, store=store(), problems=problems)
    if problems:
        raise CompressionError("; ".join(problems))
