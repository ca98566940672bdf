"""From the first state event of an attempt to its last: whatever happens in between, the run records how it ended."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from compression import home
from compression.errors import Cancelled, CompressionError, Paused, Superseded
from compression.runs import checkpoint
from compression.runs.events import Event, last_state
from compression.runs.files import disk_full, sha256, write_json
from compression.runs.folder import CANCELLED, DONE, FAILED, IDLE, PAUSED, RUNNING, RunFolder
from compression.runs.heartbeat import Heartbeat
from compression.runs.lease import Lease
from compression.runs.paths import touch
from compression.runs.process import Handle
from compression.runs.reporter import RunReporter
from compression.runs.results import seconds

Work = Callable[[RunFolder, RunReporter], dict[str, Any]]


def carry_out(folder: RunFolder, work: Work) -> str:
    """Do one attempt at the run and return the state it ended in.

    ``work`` returns what belongs in ``result.json``; raising :class:`Cancelled` or :class:`Paused` ends the attempt so,
    any other exception failed, with one line in the state event and the traceback in ``log.txt``.

    Raises:
        CompressionError: another process carries the run out, it is not to be run now, or
            (:class:`Superseded`) it was taken over from this process, which then changes nothing more.
    """
    lease = _take(folder)
    try:
        with Heartbeat(folder.heartbeat_path, confirm=lease.check), _reporter(folder, lease) as events:
            folder.log(f"{_now()} attempt {lease.attempt} by process {lease.handle.pid} on {lease.handle.host}")
            state, facts = _ended(folder, work, events)
            events.confirm()
            folder.give_back_reserve()
            events.state(state, **facts)
            folder.log(f"{_now()} {state}{': ' + facts['error'] if 'error' in facts else ''}")
    except Superseded as problem:
        folder.log(f"{_now()} {problem}")
        raise
    return state


def _ended(folder: RunFolder, work: Work, events: RunReporter) -> tuple[str, dict[str, str]]:
    """Do the work and return the state it ended in: with the ``error`` when it failed, the result's digest when done.

    Raises:
        Superseded: another attempt has taken the run over.
    """
    try:
        handle, before, spec = Handle.current(), folder.events(), folder.digest()
        events.state(RUNNING, pid=handle.pid, host=handle.host, spec=spec)
        _check_spec(folder, before, spec)
        events.check()
        events.load()
        with home.optional():
            return DONE, {"result_sha256": _finish(folder, events, work(folder, events))}
    except Superseded:
        raise
    except (Cancelled, KeyboardInterrupt):
        return CANCELLED, {}
    except Paused:
        return PAUSED, {}
    except Exception as problem:  # the worker's outermost frame: reported by the run, never dropped
        events.confirm()
        folder.log(traceback.format_exc())
        return FAILED, {"error": _one_line(folder, problem)}


class Termination:
    """While the ``with`` block runs, the first SIGTERM raises :class:`Cancelled` in the main thread.

    Later ones don't disturb the clean-up. ``requested`` says whether it came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> Termination:
        self._before = signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            raise Cancelled("terminated")


def _reporter(folder: RunFolder, lease: Lease) -> RunReporter:
    parent = folder.parent()
    stoppable = [folder] if parent is None else [folder, parent]
    return RunReporter(
        folder.events_path,
        lease.attempt,
        checkpoint_path=folder.checkpoint_path,
        cancel_files=[each.cancel_path for each in stoppable],
        pause_files=[each.pause_path for each in stoppable],
        lease=lease,
        bound={"run": folder.spec().get("id"), "spec": folder.digest()},
    )


def _take(folder: RunFolder) -> Lease:
    """Write down that this process carries out the run.

    Raises:
        CompressionError: another live process does already (the events have one writer), or the run was cancelled,
            paused, handed out again or carried out while this process waited for a machine.
    """
    me = Handle.current()
    other, state = folder.handle(), last_state(folder.events_path)
    if other and (other.host, other.pid) != (me.host, me.pid) and other.alive(folder.heartbeat_path):
        raise CompressionError(f"run {folder.id} is being carried out by process {other.pid} on {other.host}")
    if state in IDLE:
        raise CompressionError(f"run {folder.id} is {state}: it is carried out again only when it is resumed")
    if me.job and folder.parent() is None and (other is None or other.job != me.job):
        raise CompressionError(f"run {folder.id} was taken back from job {me.job}")
    touch(folder.heartbeat_path)  # before the process is named: who has no heartbeat counts as dead
    return Lease.take(folder.path, folder.process_path, me, after=folder.attempts())


def _check_spec(folder: RunFolder, events: list[Event], spec: str) -> None:
    """Refuse to continue with something else than what the first attempt did, whose points stay among the events.

    Raises:
        CompressionError: the spec was edited since.
    """
    if next((event["spec"] for event in events if event["kind"] == "state" and "spec" in event), spec) != spec:
        raise CompressionError(
            f"{folder.spec_path} was edited since the run began: put the old one back, or start a new run"
        )


def _finish(folder: RunFolder, events: RunReporter, result: dict[str, Any]) -> str:
    """Write ``result.json`` and return its SHA-256."""
    about = {"run": folder.id, "status": DONE, "attempts": events.attempt, "seconds": seconds(folder.events())}
    events.confirm()
    write_json(folder.result_path, {**result, **about})
    checkpoint.remove(folder.checkpoint_path)
    return sha256(folder.result_path)


def _one_line(folder: RunFolder, problem: Exception) -> str:
    if disk_full(problem):
        return f"no space left on the disk of {folder.path}; free some and start the run again"
    if isinstance(problem, CompressionError):
        return str(problem)
    first = (str(problem).strip().splitlines() or [""])[0]
    return f"{type(problem).__name__}: {first} (details in {folder.log_path})".replace(":  (", " (")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
