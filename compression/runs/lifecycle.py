"""From the first state event of an attempt to its last: whatever happens in between, the run says how it ended."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from compression.errors import Cancelled
from compression.errors import CompressionError
from compression.errors import Paused
from compression.runs.files import disk_full
from compression.runs.files import write_json
from compression.runs.folder import CANCELLED
from compression.runs.folder import DONE
from compression.runs.folder import FAILED
from compression.runs.folder import PAUSED
from compression.runs.folder import RUNNING
from compression.runs.folder import RunFolder
from compression.runs.process import Handle
from compression.runs.process import Heartbeat
from compression.runs.reporter import RunReporter
from compression.runs.results import seconds

Work = Callable[[RunFolder, RunReporter], dict[str, Any]]


def carry_out(folder: RunFolder, work: Work) -> str:
    """Do one attempt at the run and return the state it ended in.

    ``work`` returns what belongs in ``result.json``; raising :class:`Cancelled` or :class:`Paused` ends the attempt so,
    any other exception failed, with one line in the state event and the traceback in ``log.txt``.
    """
    handle = _take(folder)
    with Heartbeat(folder.heartbeat_path), _reporter(folder) as events:
        folder.log(f"{_now()} attempt {events.attempt} by process {handle.pid} on {handle.host}")
        try:
            events.state(RUNNING, pid=handle.pid, host=handle.host)
            events.check()
            events.load()
            result = work(folder, events)
            _finish(folder, result)
            state, error = DONE, None
        except (Cancelled, KeyboardInterrupt):
            state, error = CANCELLED, None
        except Paused:
            state, error = PAUSED, None
        except Exception as problem:  # the worker's outermost frame: told in the run's own words, never dropped
            state, error = FAILED, _one_line(folder, problem)
            folder.log(traceback.format_exc())
        folder.give_back_reserve()
        events.state(state, **({"error": error} if error else {}))
        folder.log(f"{_now()} {state}{': ' + error if error else ''}")
    return state


class Termination:
    """While the ``with`` block runs, the first SIGTERM raises :class:`Cancelled` in the main thread.

    Later ones don't disturb the clean-up. ``asked`` tells whether it came.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Termination:
        self._before = signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            raise Cancelled("terminated")


def _reporter(folder: RunFolder) -> RunReporter:
    parent = folder.parent()
    asked = [folder] if parent is None else [folder, parent]
    return RunReporter(
        folder.events_path,
        folder.attempts() + 1,
        checkpoint_path=folder.checkpoint_path,
        cancel_files=[each.cancel_path for each in asked],
        pause_files=[each.pause_path for each in asked],
    )


def _take(folder: RunFolder) -> Handle:
    """Write down that this process carries out the run.

    Raises:
        CompressionError: another live process does already (the events have one writer), or the run was cancelled,
            paused or handed out again while this process waited for a machine.
    """
    me = Handle.current()
    other = folder.handle()
    if other and (other.host, other.pid) != (me.host, me.pid) and other.alive(folder.heartbeat_path):
        raise CompressionError(f"run {folder.id} is being carried out by process {other.pid} on {other.host}")
    if me.job and folder.parent() is None and (other is None or other.job != me.job):
        raise CompressionError(f"run {folder.id} was taken back from job {me.job}")
    me.save(folder.process_path)
    return me


def _finish(folder: RunFolder, result: dict[str, Any]) -> None:
    told = {**result, "run": folder.id, "status": DONE, "seconds": seconds(folder.events())}
    write_json(folder.result_path, told)
    folder.checkpoint_path.unlink(missing_ok=True)


def _one_line(folder: RunFolder, problem: Exception) -> str:
    if disk_full(problem):
        return f"no space left on the disk of {folder.path}; free some and start the run again"
    if isinstance(problem, CompressionError):
        return str(problem)
    first = (str(problem).strip().splitlines() or [""])[0]
    return f"{type(problem).__name__}: {first} (details in {folder.log_path})".replace(":  (", " (")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
