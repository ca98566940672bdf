"""Waiting in tests: one patience for all, long enough for a machine that is busy with other things."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 240.0
"""Seconds. A test that works never waits so long; it is no bound on how fast anything is."""


def until(condition: Callable[[], object], what: Callable[[], object] | str = "waited too long") -> None:
    """Return once ``condition`` is true; fail with ``what`` (or its answer at that moment) when patience ends."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)
