"""The writer of a run's events: those of one attempt, appended line by line while its lease holds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, SupportsFloat

from compression.errors import Cancelled
from compression.points import Point
from compression.runs.events import VERSION
from compression.runs.files import finite
from compression.runs.lease import Lease
from compression.runs.paths import open_own
from compression.training.setup import Reporter

STEPS_APART = 50
SECONDS_APART = 1.0
CHECK_SECONDS = 0.2
_OWN = ("v", "t", "attempt", "kind", "step", "epoch")


class EventWriter(Reporter):
    """Appends the events of one attempt; the :class:`compression.methods.base.Reporter` that methods are given.

    Args:
        path: the events file. An incomplete line of a killed writer is closed first.
        attempt: 1 for a fresh run, one more for each resume.
        cancel_files: :meth:`check` raises :class:`Cancelled` once one of these exists (looked at 5 times a second).
        clock: seconds since 1970; by default :func:`steady_clock`.
        lease: the attempt's right to write, looked at before every line.
    """

    def __init__(
        self,
        path: str | Path,
        attempt: int = 1,
        *,
        cancel_files: Iterable[Path] = (),
        clock: Callable[[], float] | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.path = Path(path)
        self.attempt = attempt
        self._cancel_files = tuple(cancel_files)
        self._clock = clock or steady_clock()
        self._lease = lease
        self._at: tuple[int, float] = (0, 0.0)
        self._written: tuple[int, float] | None = None
        self._pending: dict[str, SupportsFloat] | None = None
        self._decided = -1
        self._checked = 0.0
        self._file = open_own(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._torn = _ends_torn(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def at(self) -> tuple[int, float]:
        """The step and epoch last reported."""
        return self._at

    def close(self) -> None:
        """Close the file; more events are an error."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def state(self, state: str, **facts: Any) -> None:
        """The run enters this state. The last training step is written first, so that a curve reaches its end."""
        self._flush_step()
        self._write("state", state=state, **facts)

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        """A stage begins at this step and epoch."""
        self._at = (step, epoch)
        self._write("phase", phase=name)

    def plan(self, total_steps: int, **facts: Any) -> None:
        """How many steps the run will take."""
        self._write("plan", total_steps=total_steps, **facts)

    def step(self, step: int, epoch: float, **values: SupportsFloat) -> None:
        """Figures of one training step, which are read only where they are written.

        What is written is always the step's own, never a mean of several.
        """
        self._at = (step, epoch)
        self._pending = values
        if self._step_due(step):
            self._flush_step()

    def point(self, point: Point) -> None:
        """A measured point."""
        self._at = (point.step, point.epoch)
        self._write("point", **point.to_dict())

    def group(self, step: int, units: Mapping[str, Sequence[int]]) -> None:
        """Which units of each group are removed in the end, at this step."""
        self._at = (step, self._at[1])
        self._write("group", units={name: len(each) for name, each in units.items()}, removed=dict(units))

    def decision(self, step: int, **facts: Any) -> None:
        """What was decided about groups at this step, and why; the figures of this step and of the next are written."""
        self._at = (step, self._at[1])
        self._flush_step()
        self._decided = step
        self._write("group", **facts)

    def log(self, message: str) -> None:
        """One line for people."""
        self._write("log", message=message)

    def check(self) -> None:
        """Raise :class:`Cancelled` when the run was requested to stop; cheap enough for every step.

        Raises:
            Superseded: another attempt has taken the run over.
        """
        now = self._clock()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        self._look()

    def confirm(self) -> None:
        """Call it just before anything is written to the run's folder.

        Raises:
            Superseded: another attempt has taken the run over.
        """
        if self._lease is not None:
            self._lease.check()

    def _look(self) -> None:
        self.confirm()
        if any(path.exists() for path in self._cancel_files):
            raise Cancelled("asked to stop")

    def _step_due(self, step: int) -> bool:
        if self._written is None or step == self._decided + 1:
            return True
        last, when = self._written
        return step - last >= STEPS_APART or self._clock() - when >= SECONDS_APART

    def _flush_step(self) -> None:
        if self._pending is not None:
            values, self._pending = self._pending, None
            self._written = (self._at[0], self._clock())
            self._write("step", **values)

    def _write(self, kind: str, **fields: Any) -> None:
        event = {"v": VERSION, "t": round(self._clock(), 3), "attempt": self.attempt, "kind": kind}
        event |= {"step": self._at[0], "epoch": self._at[1]}
        event |= {name: value for name, value in fields.items() if name not in _OWN}
        self._append(json.dumps(finite(event), allow_nan=False, separators=(",", ":")))

    def _append(self, line: str) -> None:
        self.confirm()
        data = (f"\n{line}\n" if self._torn else f"{line}\n").encode()
        self._torn = True
        while data:
            data = data[os.write(self._file, data) :]
        self._torn = False


def steady_clock(
    time_of_day: Callable[[], float] = time.time, elapsed: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Seconds since 1970 by the time of day as it is now, counted on by a clock that nobody can set."""
    offset = time_of_day() - elapsed()
    return lambda: offset + elapsed()


def _ends_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"
