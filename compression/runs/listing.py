"""The runs of a folder as a table: what ``cx.runs()`` returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compression import home
from compression.representation import Represented
from compression.runs.folder import RunFolder
from compression.runs.index import UNREADABLE
from compression.runs.store import Store
from compression.runs.summary import Summary, record, summaries

if TYPE_CHECKING:
    import pandas


class RunsTable(Represented):
    """The runs below ``root`` as they are now, newest first: one :class:`.summary.Summary` each.

    ``len(table)`` and iteration are those of the summaries; ``table[run_id]`` is the folder of that run.
    ``problems`` are lines about what cannot be read. A sweep is one row; ``sweep`` names one whose runs are listed,
    ``tag`` restricts the table to runs with this tag. No folder ``root``: no runs.
    """

    def __init__(self, root: str | Path = home.RUNS, *, tag: str | None = None, sweep: str | None = None) -> None:
        self.root = Path(root)
        self.summaries: tuple[Summary, ...] = ()
        self.problems: list[str] = []
        if self.root.is_dir():
            store = Store(root)
            infos = [info for info in store.list() if info.sweep == sweep]
            listed, problems = summaries(store, infos)
            self.summaries = tuple(each for each in listed if tag is None or tag in each.labels.tags)
            self.problems = [*store.problems, *problems]

    def __len__(self) -> int:
        return len(self.summaries)

    def __iter__(self) -> Iterator[Summary]:
        return iter(self.summaries)

    def __getitem__(self, run: str) -> RunFolder:
        """The folder of a run.

        Raises:
            CompressionError: there is none of this id below ``root``.
        """
        return RunFolder.open(self.root, run)

    def records(self) -> list[dict[str, Any]]:
        """A row of numbers for each run (:func:`.summary.record`); of one that cannot be read its id and state."""
        rows = []
        for each in self.summaries:
            try:
                rows.append(record(RunFolder.open(self.root, each.info.id)))
            except UNREADABLE:  # among the problems
                rows.append({"run": each.info.id, "state": each.info.state})
        return rows

    @property
    def frame(self) -> pandas.DataFrame:
        """:meth:`records` as a data frame: budgets with every ask and option, sizes in bytes, times in seconds.

        Raises:
            CompressionError: pandas is not installed.
        """
        with home.optional():
            import pandas
        return pandas.DataFrame(self.records())
