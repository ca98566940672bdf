"""How far the work is, as a bar on the terminal; nothing at all in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from compression import runs as library
from compression import tasks
from compression.runs import RunFolder, read_events
from compression.runs.folder import QUEUED, RUNNING

BAR = 24


class Show(Protocol):
    """Shows a text behind the ``share`` (0..1) that is done; ``None``: nobody knows it yet."""

    def __call__(self, text: str, share: float | None = None) -> None: ...


@contextlib.contextmanager
def progress_bar() -> Iterator[Show]:
    """A bar with its share, a text and the time that remains; gives what changes it, and removes it at the end."""
    columns = (BarColumn(BAR), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn(True))
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def show(text: str, share: float | None = None) -> None:
            total = None if share is None else 1.0
            bar.update(task, total=total, completed=share or 0.0, description=escape(text))

        yield show


class RunProgress:
    """What the events of a run, or of the runs of a sweep, say so far; only new ones are read."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def line(self, folder: RunFolder) -> tuple[str, float | None]:
        """What happens now in words, and the share of the run that is done."""
        children = folder.children()
        if not folder.is_sweep:
            return self._news(folder).line(folder.state)
        ended = sum(child.state not in (QUEUED, RUNNING) for child in children)
        running = next((child for child in children if child.state == RUNNING), None)
        text, share = self._news(running).line(RUNNING) if running else (folder.state, None)
        several = "" if "find" in folder.spec() else f" of {len(children)}"
        number = min(ended + 1, len(children)) if several else ended + 1
        return f"run {number}{several}  {text}", share

    def _news(self, folder: RunFolder) -> _Seen:
        seen = self._seen.setdefault(folder.id, _Seen())
        events, seen.offset = read_events(folder.events_path, seen.offset)
        for event in events:
            seen.take(event)
        return seen


@dataclass
class _Seen:
    """What the events of one run say so far; ``offset``: where the next one is in the file."""

    offset: int = 0
    total: int | None = None
    phase: str = ""
    step: int = 0
    score: str = ""

    def take(self, event: dict[str, Any]) -> None:
        """Remember what matters of one event."""
        if event["kind"] == "plan":
            self.total = event["total_steps"]
        elif event["kind"] == "phase":
            self.phase = event["phase"]
        elif event["kind"] == "point":
            metric = tasks.metric_of(event)
            self.score = f"{metric.label} {metric.show(event['score'])}"
        elif event["kind"] == "step":
            self.step = event["step"]

    def line(self, state: str) -> tuple[str, float | None]:
        """Such as ``joint  step 120 of 240  accuracy 96.0 %``, and the share of the steps."""
        if self.total is None:
            return (state if state == QUEUED else "preparing"), None
        text = "  ".join(part for part in (self.phase, f"step {self.step} of {self.total}", self.score) if part)
        return text, min(1.0, self.step / self.total) if self.total else 1.0


def waited(run: str, root: str) -> dict[str, Any]:
    """Wait for a run to its end with its progress shown, and return its result; Ctrl-C cancels it.

    Raises:
        CompressionError: no such run.
    """
    progress = RunProgress()
    try:
        with progress_bar() as show:
            watch = (lambda folder: show(*progress.line(folder))) if sys.stderr.isatty() else None
            return library.wait(run, root, watch=watch)
    except KeyboardInterrupt:
        print(f"cancelling {run} …", file=sys.stderr)
        library.cancel(run, root)
        return library.result(RunFolder.open(root, run))
