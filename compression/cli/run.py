"""``run``: one method with one budget, waited for to its end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from compression import commands, runs
from compression.cli.options import Commands, add_budget, add_json, add_priority, add_runs, budget, check_target
from compression.cli.output import answer
from compression.cli.progress import Progress
from compression.cli.summary import summary
from compression.runs.folder import DONE, PAUSED


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("run", help="compress a model with one budget")
    add_budget(parser, several=False)
    parser.add_argument("--detach", action="store_true", help="print the run's id and return at once")
    add_priority(parser)
    add_runs(parser)
    add_json(parser)
    parser.set_defaults(command=run)


def run(asked: argparse.Namespace) -> int:
    """Start the run and follow it."""
    check_target(asked.json, "--json")
    values = {"--sparsity": asked.sparsity, "--bits": asked.bits}
    wanted = runs.with_values(budget(asked), {option: value for option, value in values.items() if value is not None})
    return follow(lambda: runs.start(wanted, asked.runs, priority=asked.priority), asked)


def follow(start: Callable[[], str], asked: argparse.Namespace) -> int:
    """Start, wait to the end with a progress bar (or not, with --detach), and answer."""
    run_id = start()
    if asked.detach:
        state = runs.RunFolder.open(asked.runs, run_id).state
        answer({"run": run_id, "status": state}, run_id, asked.json)
        return 0
    result = _wait(run_id, asked.runs)
    answer(result, summary(result), asked.json)
    if result["status"] == DONE:
        return 0
    if result["status"] == PAUSED:
        print(f"paused; go on with: {commands.line('resume', run_id, options={'runs': asked.runs})}", file=sys.stderr)
        return 1
    reason = result.get("error") or f"see {runs.RunFolder.open(asked.runs, run_id).log_path}"
    print(f"error: run {run_id} {ended(result['status'])}: {reason}", file=sys.stderr)
    return 1


def ended(status: str) -> str:
    """The status as a verb of a sentence."""
    return {"failed": "failed", "cancelled": "was cancelled", "lost": "was lost (its process ended)"}.get(
        status, status
    )


def _wait(run_id: str, root: str) -> dict[str, Any]:
    progress = Progress()
    try:
        return runs.wait(run_id, root, watch=progress)
    except KeyboardInterrupt:
        progress.close()
        print(f"cancelling {run_id} …", file=sys.stderr)
        runs.cancel(run_id, root)
        return runs.result(runs.RunFolder.open(root, run_id))
    finally:
        progress.close()
