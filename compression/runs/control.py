"""Stopping runs, resuming them, and deleting them: what the command line, the app and notebooks call."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from compression import home
from compression.errors import CompressionError
from compression.runs.files import written_in
from compression.runs.folder import CANCELLED, DONE, ENDED, IDLE, PAUSED, QUEUED, RUNNING, RunFolder
from compression.runs.index import UNREADABLE
from compression.runs.launch_config import launcher_of
from compression.runs.paths import REMOVED, remove, set_aside
from compression.runs.store import RunInfo, Store
from compression.runs.submit import POLL_SECONDS

GRACE_SECONDS = 10.0


def cancel(
    run_id: str, root: str | Path = home.RUNS, *, grace: float = GRACE_SECONDS, store: Store | None = None
) -> str:
    """Ask the run to stop, then insist; returns its state.

    First the cancel file, after ``grace`` seconds SIGTERM, after as many again SIGKILL.
    A run that has ended is left as it is; a waiting or paused one never runs; cancelling a sweep cancels its runs.

    Raises:
        CompressionError: no such run.
    """
    folder, store = RunFolder.open(root, run_id), store or Store(root)
    _make_sure(folder)
    with store.alone():
        if folder.state in ENDED:
            return folder.state
        folder.ask_to_stop()
        if folder.state == PAUSED:
            with written_in(folder.path.parent):
                folder.add_state(CANCELLED)
    if not _stopped_within(folder, grace) and folder.parent() is None:  # the worker of a sweep has other runs to do
        launcher = launcher_of(folder, store.launcher)
        launcher.stop(folder)
        if not _stopped_within(folder, grace):
            launcher.stop(folder, insist=True)
            _stopped_within(folder, grace)
    store.sync()
    return folder.state


def pause(
    run_id: str, root: str | Path = home.RUNS, *, grace: float = GRACE_SECONDS, store: Store | None = None
) -> str:
    """Ask the run to write a checkpoint and stop, wait ``grace`` seconds for it, and return its state.

    A waiting run is paused at once; one that has stopped is left as it is; pausing a sweep pauses the run it is at.

    Raises:
        CompressionError: no such run, or one of a sweep.
    """
    folder = _whole(RunFolder.open(root, run_id))
    if folder.state in IDLE:
        return folder.state
    folder.ask_to_pause()
    _stopped_within(folder, grace)
    (store or Store(root)).sync()
    return folder.state


def resume(run_id: str, root: str | Path = home.RUNS, *, store: Store | None = None) -> str:
    """Continue a stopped run from its last checkpoint (from its beginning when there is none); returns its state.

    It waits for a free slot like a new one. A run that is done, runs or waits is left as it is; of a sweep, the runs
    that are not done continue.

    Raises:
        CompressionError: no such run, one of a sweep, or one whose spec cannot be read.
    """
    folder = _whole(RunFolder.open(root, run_id))
    folder.budget()
    store = store or Store(root)
    with store.alone():
        if folder.state in IDLE and folder.state != DONE:
            for each in (folder, *folder.children()):
                if each.state != DONE:
                    each.put_back()
    store.sync()
    return folder.state


def delete(
    run_ids: Sequence[str],
    root: str | Path = home.RUNS,
    *,
    store: Store | None = None,
    problems: list[str] | None = None,
) -> list[str]:
    """Delete the folders of these runs, of a sweep with its runs; returns the ids of all that were removed.

    With ``problems``, runs that must not be deleted are passed over and named there.

    Raises:
        CompressionError: no such run, one that is running, one of a sweep, or a folder that no run made; then
            nothing is deleted.
    """
    store = store or Store(root)
    with store.alone(), written_in(store.root):
        chosen = _deletable(run_ids, store.root, problems)
        aside = _set_aside([folder.path for folder in chosen])
    with written_in(store.root):
        for path in aside:
            remove(path)
    for path in store.root.glob(f"{REMOVED}*"):  # what an interrupted deletion has left, as far as it can be removed
        with contextlib.suppress(OSError):
            remove(path)
    store.sync()
    return [folder.id for folder in chosen]


def _set_aside(paths: Sequence[Path]) -> list[Path]:
    """Rename these folders, all or none; returns what is to be removed.

    Raises:
        OSError: one of them cannot be renamed.
    """
    aside: list[Path] = []
    try:
        for path in paths:
            aside.append(set_aside(path))
    except OSError:
        for before, after in zip(paths, aside, strict=False):
            os.rename(after, before)
        raise
    return aside


def _deletable(run_ids: Sequence[str], root: Path, problems: list[str] | None) -> list[RunFolder]:
    """The folders of these runs and of the runs of their sweeps, each once."""
    folders: dict[str, RunFolder] = {}
    for run_id in dict.fromkeys(run_ids):
        try:
            folders |= {folder.id: folder for folder in _with_parts(root, run_id)}
        except CompressionError as error:
            if problems is None:
                raise
            problems.append(str(error))
    return list(folders.values())


def _with_parts(root: Path, run_id: str) -> list[RunFolder]:
    """The folder of a run, and of the runs of a sweep.

    Raises:
        CompressionError: one of them must not be deleted.
    """
    folder = _whole(RunFolder.named(root, run_id))
    folder.spec()  # what this program cannot read it does not delete
    if _is_active(folder):
        raise CompressionError(f"run {run_id} is going on; cancel it first")
    return [folder, *folder.children()]


def outdated(infos: Sequence[RunInfo], days: float, now: float | None = None) -> list[str]:
    """The ids of runs and sweeps that stopped more than ``days`` days ago."""
    before = (time.time() if now is None else now) - days * 86_400
    stopped = [info for info in infos if info.sweep is None and info.state not in (QUEUED, RUNNING)]
    return [info.id for info in stopped if (info.ended or info.created) < before]


def _whole(folder: RunFolder) -> RunFolder:
    """The folder itself, of a run outside any sweep, as soon as its state is certain.

    Raises:
        CompressionError: it is one of a sweep.
    """
    parent = folder.parent()
    if parent is not None and parent.spec_path.is_file():
        raise CompressionError(f"run {folder.id} belongs to sweep {parent.id}; name the sweep")
    _make_sure(folder)
    return folder


def _make_sure(folder: RunFolder) -> None:
    """Listen to a process of another machine until it is certain whether it lives: 2 seconds, or 30 if it does not."""
    while _is_active(folder) and not folder.is_sure():
        time.sleep(POLL_SECONDS)


def _is_active(folder: RunFolder) -> bool:
    """Is a process at work on this run? Where its events cannot be read, its process alone decides."""
    try:
        return folder.state == RUNNING
    except UNREADABLE:
        return folder.alive()


def _stopped_within(folder: RunFolder, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if folder.state != RUNNING:
            return True
        time.sleep(POLL_SECONDS)
    return folder.state != RUNNING
