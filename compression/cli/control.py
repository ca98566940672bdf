"""``pause``, ``resume``, ``cancel``, ``delete``: stopping runs, continuing them, and removing them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from compression import runs as library
from compression.cli.options import Detach, Json, Run, Runs
from compression.cli.output import answer
from compression.cli.run import follow
from compression.errors import CompressionError
from compression.runs.folder import IDLE

OlderThan = Annotated[float | None, Parameter(metavar="DAYS", help="all that stopped longer ago than this")]


def pause(run: Run, /, *, runs: Runs = "runs", json: Json = None) -> int:
    """Stop it for now; a run that has stopped is not changed."""
    return _report(run, library.pause(run, runs), json)


def cancel(run: Run, /, *, runs: Runs = "runs", json: Json = None) -> int:
    """Stop it; a run that has ended is not changed."""
    return _report(run, library.cancel(run, runs), json)


def resume(run: Run, /, *, detach: Detach = False, runs: Runs = "runs", json: Json = None) -> int:
    """Continue and follow to the end; of a run that is done, the result."""
    library.resume(run, runs)
    return follow(run, runs, json, detach)


def delete(
    *run: Annotated[str, Parameter(help="ids, as `runs` lists them")],
    older_than: OlderThan = None,
    runs: Runs = "runs",
    json: Json = None,
) -> None:
    """Delete those named and those that are old enough."""
    if not run and older_than is None:
        raise CompressionError("name the runs to delete, or all old ones by --older-than DAYS")
    deleted = library.delete(list(run), runs) if run else []
    problems: list[str] = []
    if older_than is not None and Path(runs).is_dir():
        old = library.outdated(library.Store(runs).list(), older_than)
        deleted += library.delete(old, runs, problems=problems)
    answer(deleted, "\n".join(f"{run_id}: deleted" for run_id in deleted) or "nothing to delete", json)
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)


def _report(run: str, state: str, json: str | None) -> int:
    answer({"run": run, "status": state}, f"{run}: {state}", json)
    return 0 if state in IDLE else 1
