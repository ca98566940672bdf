"""The events of one run as they are written, read on from where the last reader stopped."""

from __future__ import annotations

import threading
from pathlib import Path

from compression.runs.events import Event, read_events


class EventLog:
    """The events of one run so far; several threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def read(self) -> list[Event]:
        """All events so far; a list of the caller's own.

        Raises:
            CompressionError: see :func:`compression.runs.events.read_events`.
        """
        with self._lock:
            fresh, self._offset = read_events(self._path, self._offset)
            self._events.extend(fresh)
            return list(self._events)
