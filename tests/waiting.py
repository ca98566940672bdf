"""Waiting in tests: one patience for all, long enough for a machine that is busy with other things."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compression.jobs.sidejob import Job

PATIENCE = 240.0
"""Seconds. A test that works never waits so long; it is no bound on how fast anything is."""


def until(condition: Callable[[], object], what: Callable[[], object] | str = "waited too long") -> None:
    """Return once ``condition`` is true; fail with ``what`` (or its answer at that moment) when patience ends."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)


def ended(status: Callable[[], Job], state: str) -> Job:
    """The job beside a run once it goes no longer; it must have ended in this state."""
    until(lambda: status().state != "running", status)
    job = status()
    assert job.state == state, job
    return job
