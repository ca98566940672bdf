"""``runs``, ``show``, ``label``, ``pause``, ``resume``, ``cancel``, ``delete``: the runs, and what to do with them."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from compression import home, tasks
from compression import runs as library
from compression.cli.options import Detach, Json, Run, Runs
from compression.cli.output import answer, columns
from compression.cli.run import follow
from compression.cli.summary import scored, summary
from compression.errors import CompressionError
from compression.runs import labels
from compression.runs.folder import IDLE, RUNNING
from compression.runs.summary import Summary, summaries
from compression.tasks import Metric

Tag = Annotated[str | None, Parameter(help="only runs with this tag")]
OlderThan = Annotated[float | None, Parameter(metavar="DAYS", help="all that stopped longer ago than this")]
ROWS = {
    "run": "{id}", "name": "{name}", "state": "{state}", "method": "{method}", "model": "{model}", "data": "{data}",
    "score": "{score}", "bytes": "{bytes:size}", "step": "{step}", "started": "{started}",
}  # fmt: skip


def list_runs(*, tag: Tag = None, runs: Runs = home.RUNS, json: Json = None) -> None:
    """One line a run; folders that cannot be read are named on stderr."""
    if not Path(runs).is_dir():
        answer([], f"no runs in {runs}", json)
        return
    described = home.RUNS if tag is None else f"runs with the tag {tag}"
    store = library.Store(runs)
    infos = store.list()
    rows, problems = summaries(store, infos)
    listed = [_described(each) for each in rows if tag is None or tag in each.labels.tags]
    cells = [_row({**run, "state": _state(store.root, run["id"], run["state"])}, store.root) for run in listed]
    heads = {head: cell for head, cell in ROWS.items() if head != "name" or any(run["name"] for run in listed)}
    answer(listed, columns(heads, cells) if cells else f"no {described} in {runs}", json)
    for problem in (*store.problems, *problems):
        print(f"note: {problem}", file=sys.stderr)


def _described(each: Summary) -> dict[str, Any]:
    final = each.final.to_dict() if each.final else None
    info, named = each.info, {"name": each.labels.name, "tags": list(each.labels.tags)}
    return {**dataclasses.asdict(info), "run": info.id, "status": info.state, "final": final, **named}


def _row(run: dict[str, Any], root: Path) -> dict[str, Any]:
    final = dict(run["final"] or {"bytes": None})
    metric = None
    if final.get("metric") not in (None, *tasks.METRICS):  # of a task of one's own: its run says how it is shown
        with contextlib.suppress(CompressionError):
            metric = Metric.from_result(library.RunFolder.open(root, run["id"]).spec().get("subject", {}))
    final["score"] = scored(final, metric)
    step = "–" if run["step"] is None else f"{run['step']}/{run['total_steps'] or '?'}"
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["started"])) if run["started"] else "–"
    method = f"{run['method']} x{run['runs']}" if run["runs"] else run["method"]
    return {**run, **final, "method": method, "step": step, "started": started}


def show(run: Run, /, *, runs: Runs = home.RUNS, json: Json = None) -> None:
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


def label(
    *run: Annotated[str, Parameter(help="ids, as `runs` lists them")],
    name: Annotated[str | None, Parameter(help="what the run is called; empty: nothing")] = None,
    tag: Annotated[tuple[str, ...], Parameter(help="a tag to add; again for another")] = (),
    untag: Annotated[tuple[str, ...], Parameter(help="a tag to take away; again for another")] = (),
    runs: Runs = home.RUNS,
    json: Json = None,
) -> None:
    """Name runs, or tag them; without either, what they are called."""
    if not run or (name is not None and len(run) > 1):
        raise CompressionError("label needs a run; a name is for one, tags are for any number")
    named = {}
    for folder in [library.RunFolder.open(runs, each) for each in run]:
        now = labels.read(folder)
        tags = [each for each in (*now.tags, *tag) if each.strip() not in {other.strip() for other in untag}]
        named[folder.id] = labels.labels(now.name if name is None else name, tags)
    for each, value in named.items():  # once none of them is refused
        labels.write(library.RunFolder.open(runs, each), value)
    lines = [f"{each}: {value.name or '–'} [{', '.join(value.tags)}]" for each, value in named.items()]
    answer([{"run": each, **dataclasses.asdict(value)} for each, value in named.items()], "\n".join(lines), json)


def pause(run: Run, /, *, runs: Runs = home.RUNS, json: Json = None) -> int:
    """Stop it for now; a run that has stopped is not changed."""
    return _report(run, library.pause(run, runs), json)


def cancel(run: Run, /, *, runs: Runs = home.RUNS, json: Json = None) -> int:
    """Stop it; a run that has ended is not changed."""
    return _report(run, library.cancel(run, runs), json)


def resume(run: Run, /, *, detach: Detach = False, runs: Runs = home.RUNS, json: Json = None) -> int:
    """Continue and follow to the end; of a run that is done, the result."""
    library.resume(run, runs)
    return follow(run, runs, json, detach)


def delete(
    *run: Annotated[str, Parameter(help="ids, as `runs` lists them")],
    older_than: OlderThan = None,
    runs: Runs = home.RUNS,
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
