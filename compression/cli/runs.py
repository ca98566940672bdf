"""``runs`` and ``show``: which runs there are, and their results."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from compression import runs as library
from compression.cli.options import Json, Run, Runs
from compression.cli.output import answer, percent, size, table
from compression.cli.summary import summary
from compression.errors import CompressionError
from compression.runs.folder import RUNNING

HEAD = ("run", "state", "method", "model", "data", "accuracy", "bytes", "step", "started")


def list_runs(*, runs: Runs = "runs", json: Json = None) -> None:
    """One line a run; folders that cannot be read are named on stderr."""
    if not Path(runs).is_dir():
        answer([], f"no runs in {runs}", json)
        return
    store = library.Store(runs)
    infos = store.list()
    points = store.points(*(info.id for info in infos))
    listed = [_described(info, points[info.id]) for info in infos]
    rows = [_row({**run, "state": _state(store.root, run["id"], run["state"])}) for run in listed]
    answer(listed, table(HEAD, rows) if rows else f"no runs in {runs}", json)
    for problem in store.problems:
        print(f"note: {problem}", file=sys.stderr)


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


def show(run: Run, /, *, runs: Runs = "runs", json: Json = None) -> None:
    """The result, of a run that has not ended as far as it has come."""
    result = library.result(library.RunFolder.open(runs, run))
    state = _state(Path(runs), run, result["status"])
    answer(result, summary({**result, "status": state}), json)


def _state(root: Path, run: str, state: str) -> str:
    """The state in words: one look does not tell whether a process of another machine still lives."""
    try:
        sure = state != RUNNING or library.RunFolder(root / run).is_sure()
    except CompressionError:  # its process file is damaged, which the list says among its problems
        sure = False
    return state if sure else f"{state} (not heard from yet)"
