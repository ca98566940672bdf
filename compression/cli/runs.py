"""``runs`` and ``show``: what there is, and what came of it."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from compression import runs as library
from compression.cli.options import Commands, add_json, add_runs, check_target
from compression.cli.output import answer, percent, size, table
from compression.cli.summary import summary
from compression.errors import CompressionError
from compression.runs.folder import RUNNING

HEAD = ("run", "state", "method", "model", "data", "accuracy", "bytes", "step", "started")


def add(commands: Commands[Any]) -> None:
    """Register the commands."""
    listing = commands.add_parser("runs", help="list the runs, newest first")
    listing.set_defaults(command=list_runs)
    show = commands.add_parser("show", help="the result of a run so far")
    show.set_defaults(command=show_run)
    show.add_argument("run", metavar="RUN", help="its id, as `runs` lists it")
    for parser in (listing, show):
        add_runs(parser)
        add_json(parser)


def list_runs(asked: argparse.Namespace) -> int:
    """One line a run; folders that cannot be read are named on stderr."""
    check_target(asked.json, "--json")
    if not Path(asked.runs).is_dir():
        answer([], f"no runs in {asked.runs}", asked.json)
        return 0
    store = library.Store(asked.runs)
    found = store.list()
    points = store.points(*(info.id for info in found))
    listed = [_described(info, points[info.id]) for info in found]
    rows = [_row({**run, "state": _state(store.root, run["id"], run["state"])}) for run in listed]
    text = table(HEAD, rows) if rows else f"no runs in {asked.runs}"
    answer(listed, text, asked.json)
    for problem in store.problems:
        print(f"note: {problem}", file=sys.stderr)
    return 0


def _described(info: library.RunInfo, points: list[Any]) -> dict[str, Any]:
    final = next((point.to_dict() for point in points if point.phase == "final"), None)
    return {**dataclasses.asdict(info), "run": info.id, "status": info.state, "final": final}


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    final = run["final"] or {"accuracy": None, "bytes": None}
    step = "–" if run["step"] is None else f"{run['step']}/{run['total_steps'] or '?'}"
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["started"])) if run["started"] else "–"
    method = f"{run['method']} x{run['runs']}" if run["runs"] else run["method"]
    about = (run["id"], run["state"], method, run["model"], run["data"])
    return (*about, percent(final["accuracy"]), size(final["bytes"]), step, started)


def show_run(asked: argparse.Namespace) -> int:
    """The result, of a run that goes on as far as it has come."""
    check_target(asked.json, "--json")
    result = library.result(library.RunFolder.open(asked.runs, asked.run))
    state = _state(Path(asked.runs), asked.run, result["status"])
    answer(result, summary({**result, "status": state}), asked.json)
    return 0


def _state(root: Path, run: str, state: str) -> str:
    """The state in words: one look does not tell whether a process of another machine still lives."""
    try:
        sure = state != RUNNING or library.RunFolder(root / run).is_sure()
    except CompressionError:  # its process file is damaged, which the list says among its problems
        sure = False
    return state if sure else f"{state} (not heard from yet)"
