"""One line on the terminal that shows how far the work is; nothing at all in a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from compression.runs import RunFolder, read_events
from compression.runs.folder import QUEUED, RUNNING

REDRAW_SECONDS = 0.2
BAR = 24


class StatusLine:
    """A line that is written again and again; only a terminal shows it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.visible = self._stream.isatty()
        self._dirty = False

    def show(self, text: str) -> None:
        """Write ``text``, cut to the terminal's width, in place of what was there."""
        if self.visible:
            self._stream.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            self._stream.flush()
            self._dirty = bool(text)

    def close(self) -> None:
        """Leave an empty line behind."""
        if self._dirty:
            self.show("")


class RunProgress:
    """Call it with the run's folder now and then; it reads only what is new and redraws five times a second."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._shown = StatusLine(stream)
        self._seen: dict[str, _Seen] = {}
        self._drawn = 0.0

    def __call__(self, folder: RunFolder) -> None:
        """Redraw when it is time to."""
        now = time.monotonic()
        if self._shown.visible and now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._shown.show(self._line(folder))

    def close(self) -> None:
        """Leave an empty line behind."""
        self._shown.close()

    def _line(self, folder: RunFolder) -> str:
        children = folder.children()
        if not folder.is_sweep:
            return describe(folder.state, self._news(folder))
        ended = sum(child.state not in (QUEUED, RUNNING) for child in children)
        running = next((child for child in children if child.state == RUNNING), None)
        inner = describe(RUNNING, self._news(running)) if running else folder.state
        if "find" in folder.spec():
            return f"run {ended + 1}  {inner}"
        return f"run {min(ended + 1, len(children))} of {len(children)}  {inner}"

    def _news(self, folder: RunFolder) -> _Seen:
        seen = self._seen.setdefault(folder.id, _Seen())
        events, seen.offset = read_events(folder.events_path, seen.offset)
        for event in events:
            seen.take(event)
        return seen


class _Seen:
    """What the events of one run say so far."""

    def __init__(self) -> None:
        self.offset = 0
        self.total: int | None = None
        self.phase = ""
        self.step = 0
        self.accuracy: float | None = None
        self.first: tuple[int, float] | None = None
        self.last: tuple[int, float] | None = None

    def take(self, event: dict[str, Any]) -> None:
        """Remember what matters of one event."""
        if event["kind"] == "plan":
            self.total = event["total_steps"]
        elif event["kind"] == "phase":
            self.phase = event["phase"]
        elif event["kind"] == "point":
            self.accuracy = event["accuracy"]
        elif event["kind"] == "step":
            self.step = event["step"]
            self.last = (event["step"], event["t"])
            self.first = self.first or self.last

    def remaining_seconds(self) -> float | None:
        """From the pace so far."""
        if self.total is None or self.first is None or self.last is None or self.last[0] <= self.first[0]:
            return None
        pace = (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])
        return max(0.0, pace * (self.total - self.last[0]))


def bar(share: float) -> str:
    """Such as ``[######------]  50%``."""
    return f"[{'#' * round(BAR * share):-<{BAR}}] {share:4.0%}"


def describe(state: str, seen: _Seen) -> str:
    """Such as ``[######------]  50 %  joint  step 120 of 240  accuracy 96.0 %  0:12 left``."""
    if seen.total is None:
        return state if state == QUEUED else "preparing"
    share = min(1.0, seen.step / seen.total) if seen.total else 1.0
    parts = [bar(share), seen.phase, f"step {seen.step} of {seen.total}"]
    if seen.accuracy is not None:
        parts.append(f"accuracy {seen.accuracy:.1%}")
    remaining = seen.remaining_seconds()
    if remaining is not None:
        parts.append(f"{int(remaining) // 60}:{int(remaining) % 60:02d} left")
    return "  ".join(part for part in parts if part)
