"""``pause``, ``resume``, ``cancel``, ``delete``: stopping runs, going on with them, and clearing away."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from compression import runs as library
from compression.cli.options import Commands, add_json, add_runs, check_target
from compression.cli.output import answer
from compression.cli.run import follow
from compression.errors import CompressionError
from compression.runs.folder import IDLE


def add(commands: Commands[Any]) -> None:
    """Register the commands."""
    pause = commands.add_parser("pause", help="write a checkpoint and stop; `resume` goes on from there")
    pause.set_defaults(command=pause_run)
    resume = commands.add_parser("resume", help="go on with a run that was paused, cancelled, failed or lost")
    resume.add_argument("--detach", action="store_true", help="print the run's id and return at once")
    resume.set_defaults(command=resume_run)
    cancel = commands.add_parser("cancel", help="stop a run or a sweep")
    cancel.set_defaults(command=cancel_run)
    for parser in (pause, resume, cancel):
        parser.add_argument("run", metavar="RUN", help="its id, as `runs` lists it")
    delete = commands.add_parser("delete", help="delete runs with everything they wrote")
    delete.add_argument("run", nargs="*", metavar="RUN", help="ids, as `runs` lists them")
    delete.add_argument("--older-than", type=float, metavar="DAYS", help="all that stopped longer ago than this")
    delete.set_defaults(command=delete_runs)
    for parser in (pause, resume, cancel, delete):
        add_runs(parser)
        add_json(parser)


def pause_run(asked: argparse.Namespace) -> int:
    """Stop it for now; a run that has stopped is left as it is."""
    check_target(asked.json, "--json")
    return _told(asked, library.pause(asked.run, asked.runs))


def cancel_run(asked: argparse.Namespace) -> int:
    """Stop it; a run that has ended is left as it is."""
    check_target(asked.json, "--json")
    return _told(asked, library.cancel(asked.run, asked.runs))


def resume_run(asked: argparse.Namespace) -> int:
    """Go on and follow to the end; of a run that is done, the result."""
    check_target(asked.json, "--json")
    library.resume(asked.run, asked.runs)
    return follow(lambda: str(asked.run), asked)


def delete_runs(asked: argparse.Namespace) -> int:
    """Delete those named and those that are old enough."""
    check_target(asked.json, "--json")
    if not asked.run and asked.older_than is None:
        raise CompressionError("name the runs to delete, or all old ones by --older-than DAYS")
    deleted = library.delete(asked.run, asked.runs) if asked.run else []
    problems: list[str] = []
    if asked.older_than is not None and Path(asked.runs).is_dir():
        old = library.outdated(library.Store(asked.runs).list(), asked.older_than)
        deleted += library.delete(old, asked.runs, problems=problems)
    answer(deleted, "\n".join(f"{run_id}: deleted" for run_id in deleted) or "nothing to delete", asked.json)
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)
    return 0


def _told(asked: argparse.Namespace, state: str) -> int:
    answer({"run": asked.run, "status": state}, f"{asked.run}: {state}", asked.json)
    return 0 if state in IDLE else 1
