"""The runs of a panel: started, steered and read again and again, as far as their folders have grown."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compression import methods
from compression import runs as library
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots.run_view import RunView, run_view
from compression.runs import pace
from compression.runs.eventlog import EventLog
from compression.runs.events import last_attempts
from compression.runs.folder import IDLE, RunFolder
from compression.runs.results import seconds
from compression.runs.store import RunInfo, Store
from compression.tasks import Metric
from compression.widgets import panel


@dataclass(frozen=True, eq=False)
class Followed:
    """One run: its folder, its events as far as they were read, and what does not change."""

    folder: RunFolder
    log: EventLog
    spec: dict[str, Any]
    metric: Metric
    label: str

    @classmethod
    def open(cls, root: Path, run: str) -> Followed:
        """A run of the folder ``root``.

        Raises:
            CompressionError: there is none, or it cannot be read.
        """
        folder = RunFolder.open(root, run)
        spec, budget = folder.spec(), folder.budget()
        label = methods.get(budget.method).request(budget)
        metric = Metric.from_result(spec.get("subject") or {})
        return cls(folder, EventLog(folder.events_path), spec, metric, label)

    def view(self) -> RunView:
        """The run so far.

        Raises:
            CompressionError: its events cannot be read.
        """
        events = self.log.read()
        state = self.folder.state_of(events)
        return run_view(self.folder.id, state, self.spec["budget"], last_attempts(events), seconds(events), self.metric)


class Runs:
    """The runs of one panel in the folder ``root``, on ``device``; ``problem``: why one of them cannot be read."""

    def __init__(self, root: Path, device: str) -> None:
        self.root, self.device, self.problem = root, device, ""
        self._followed: list[Followed] = []
        self._views: list[RunView] = []
        self._paces: tuple[list[RunInfo], dict[str, pace.Pace | None]] | None = None

    @cached_property
    def _store(self) -> Store:
        return Store(self.root)

    @property
    def folders(self) -> list[RunFolder]:
        """Of all runs, the newest last."""
        return [each.folder for each in self._followed]

    @property
    def newest(self) -> RunFolder | None:
        """Of the run that was started or added last."""
        return self._followed[-1].folder if self._followed else None

    @property
    def active(self) -> bool:
        """Whether one of them waits or works."""
        return any(view.active for view in self._views)

    def start(self, budget: Budget) -> RunFolder:
        """Start a run, or queue it.

        Raises:
            CompressionError: what in the budget cannot be.
        """
        return self.add(library.start(budget, self.root, device=self.device, store=self._store))

    def add(self, run: str) -> RunFolder:
        """Follow an existing run.

        Raises:
            CompressionError: there is none, or it cannot be read.
        """
        followed = Followed.open(self.root, run)
        self._followed = [each for each in self._followed if each.folder.id != run] + [followed]
        return followed.folder

    def budget(self, run: str) -> Budget:
        """What one of these runs was asked.

        Raises:
            CompressionError: it is none of these.
        """
        followed = next((each for each in self._followed if each.folder.id == run), None)
        if followed is None:
            raise CompressionError(f"run {run} is none of this panel")
        return followed.folder.budget()

    def pause(self) -> str:
        """Pause the newest run; its state.

        Raises:
            CompressionError: there is none.
        """
        return library.pause(self._last(), self.root, store=self._store)

    def resume(self) -> str:
        """Continue the newest run; its state.

        Raises:
            CompressionError: there is none.
        """
        return library.resume(self._last(), self.root, store=self._store)

    def cancel(self) -> str:
        """Cancel the newest run; its state.

        Raises:
            CompressionError: there is none.
        """
        return library.cancel(self._last(), self.root, store=self._store)

    def _last(self) -> str:
        if self.newest is None:
            raise CompressionError("there is no run yet: start one")
        return self.newest.id

    def wait(self, watch: Callable[[], None], period: float, timeout: float | None) -> dict[str, Any]:
        """Wait for the newest run, calling ``watch`` every ``period`` seconds; its result.

        Raises:
            CompressionError: there is none. TimeoutError: see :func:`compression.runs.wait`.
        """
        due = time.monotonic() + period

        def seen(folder: RunFolder) -> None:
            nonlocal due
            if time.monotonic() >= due or folder.state in IDLE:
                due = time.monotonic() + period
                watch()

        return library.wait(self._last(), self.root, timeout=timeout, watch=seen)

    def read(self) -> bool:
        """Read what is new, and start what waits; returns whether a run has ended or stopped since."""
        if not self._followed:
            return False
        before = {view.run for view in self._views if view.active}
        self._store.sync()
        self.problem, views = "", []
        for each in self._followed:
            try:
                views.append(each.view())
            except CompressionError as error:
                self.problem = str(error)
        self._views = views
        ended = bool(before - {view.run for view in views if view.active})
        if ended:
            self._paces = None
        return ended

    def shown(self) -> panel.Data:
        """The runs as rows, the newest first, and their front."""
        labels = {each.folder.id: each.label for each in self._followed}
        rows = [panel.run_row(view, labels[view.run]) for view in reversed(self._views)]
        return {"runs": rows, "front": panel.front_of(self._views, labels)}

    def estimate(self, budget: Budget, macs: float) -> pace.Estimate | None:
        """How long a run takes here, by those in the folder; ``macs``: of the dense network."""
        if not self.root.is_dir():
            return None
        infos, paces = self._paces or (self._store.list(), {})
        self._paces = infos, paces

        def of_run(run: str) -> pace.Pace | None:
            if run not in paces:
                paces[run] = pace.of_run(RunFolder(self.root / run))
            return paces[run]

        return pace.estimate(budget, infos, of_run, macs)
