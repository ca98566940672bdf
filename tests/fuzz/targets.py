"""The formats that are fuzzed, each with sound samples made here and with what is done with a file once it is read."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs.sidejob import SideJob
from compression.methods import all_methods, get
from compression.methods.opq import Allocation
from compression.reading import json_object
from compression.runs import gallery
from compression.runs.events import read_events
from compression.runs.folder import RunFolder
from compression.runs.process import Handle
from compression.runs.resultfile import written
from compression.runs.results import result
from tests.fuzz.binary import BINARY, address_mutant
from tests.fuzz.layered import LAYERED
from tests.fuzz.mutate import text_mutant
from tests.fuzz.samples import (
    ABOUT,
    ALLOCATION,
    BUDGET,
    EVENTS,
    EXPLANATION,
    HANDLE,
    RESULT,
    SIDE_JOB,
    SPEC,
    STUDIES,
    SWEEP,
)
from tests.fuzz.target import Target


def _one_of(*samples: Any) -> Callable[[Random], bytes]:
    return lambda random: text_mutant(random, random.choice(samples))


def _placed(folder: Path, **contents: Any) -> RunFolder:
    """A run folder ``run`` with the sound files, of which some are replaced (``None``: left out)."""
    files = {"spec.json": SPEC, "events.jsonl": _lines(EVENTS), "result.json": RESULT, **contents}
    place = folder / "run"
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        path = place / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return RunFolder(place)


def _lines(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def _check_budget(budget: Budget) -> None:
    assert Budget.from_dict(budget.to_dict()) == budget
    if budget.method in all_methods():
        get(budget.method).check_budget(budget)


def budget(data: bytes, folder: Path) -> None:
    """A budget file, and its options as its method reads them."""
    path = folder / "budget.json"
    path.write_bytes(data)
    _check_budget(Budget.load(path))


def uploaded(data: bytes, folder: Path) -> None:
    """A budget that a visitor uploads."""
    from app.budget import budget_upload as page

    _check_budget(page.parse(data))


def address(data: bytes, folder: Path) -> None:
    """The word in an address that carries the draft of the Budget page."""
    from app.budget import permalink

    word = permalink.pack(permalink.unpack(data.decode("latin-1")))
    assert permalink.pack(permalink.unpack(word)) == word


def spec(data: bytes, folder: Path) -> None:
    """A run as the list shows it, by its folder."""
    run = _placed(folder, **{"spec.json": data})
    _listed(run)
    assert run.path.parent == folder
    assert all(child.path.parent == folder for child in run.children())
    run.budget()


def events(data: bytes, folder: Path) -> None:
    """A run's story: what the list, the pages and the command line make of it."""
    from compression.cli.progress import RunProgress
    from compression.cli.summary import summary

    run = _placed(folder, **{"events.jsonl": data, "result.json": None})
    _listed(run)
    summary(result(run))
    run.attempts()
    run.points()
    assert RunProgress().line(run)


def _listed(run: RunFolder) -> None:
    """The run's rows in an index, and its story as a page tells it."""
    from app import names
    from compression.plots import run_view
    from compression.runs import index
    from compression.runs.events import last_attempts
    from compression.runs.results import seconds

    with _database() as db:
        index.insert(db, run)
        events = read_events(run.events_path)[0]
        index.record(db, run, events)
        row = index.info(db.execute("SELECT * FROM runs").fetchone())
        assert json.loads(json.dumps(row.budget)) == {**Budget().to_dict(), **run.spec()["budget"]}
    time.localtime(row.created)
    page = run_view.run_view(run.id, run.state_of(events), row.budget, last_attempts(events), seconds(events))
    assert 0 <= page.progress <= 1
    page.remaining()
    names.describe(row.budget)
    assert run.state == run.state_of(events)


def _database() -> Any:
    import contextlib
    import sqlite3

    from compression.runs import index

    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    index.make_tables(db)
    return contextlib.closing(db)


def run_result(data: bytes, folder: Path) -> None:
    """A result as the command line and the page Compare show it."""
    from compression.cli.summary import summary
    from compression.plots.confusion import confusion_info
    from compression.plots.ledger import ledger_info

    run = _placed(folder, **{"result.json": data})
    result = written(run.result_path)
    if "job" in result:
        return
    summary({"equality": None, "ledger": None, **result})
    if result.get("ledger"):
        ledger_info(result["ledger"], "opq")
    if result.get("confusion"):
        confusion_info(result["confusion"]["baseline"], result["confusion"]["final"], result.get("classes") or ())


def process(data: bytes, folder: Path) -> None:
    """Who carries out a run, and whether that process lives."""
    run = _placed(folder, **{"process.json": data.replace(b"@here@", socket.gethostname().encode())})
    Handle.load(run.process_path).process()
    assert run.alive() in (True, False)
    assert run.waits() in (True, False)


def side_job(data: bytes, folder: Path) -> None:
    """How an export beside a run stands."""
    run = _placed(folder)
    path = run.path / "state.json"
    path.write_bytes(data.replace(b"@here@", socket.gethostname().encode()))
    job = SideJob("export", run, path).status()
    assert f"{job.share:.0%} {job.text} {job.error}"


def allocation(data: bytes, folder: Path) -> None:
    """An allocation that somebody saved as JSON."""
    plan = Allocation.from_dict(json_object(data, "allocation"))
    assert Allocation.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert plan.error >= 0


def explanation(data: bytes, folder: Path) -> None:
    """Scores of an explanation, as the page shows them."""
    from compression.explain import stored

    run = _placed(folder)
    (run.path / "explain").mkdir(exist_ok=True)
    stored.result_path(run).write_bytes(data)
    comparison = stored.comparison(run)
    assert comparison is not None
    assert comparison.missing is None or len(comparison.missing) == 2


def exhibit(data: bytes, folder: Path) -> None:
    """The gallery with one damaged file: it is read all the same, and says which folder it leaves out."""
    name, _, content = data.partition(b"\n")
    collection = folder / "gallery" / "c"
    collection.mkdir(parents=True, exist_ok=True)
    for file, value in (("spec.json", SPEC), ("events.jsonl", EVENTS), ("result.json", RESULT)):
        (collection / "run").mkdir(exist_ok=True)
        (collection / "run" / file).write_text(json.dumps(value))
    (collection / "about.json").write_text(json.dumps(ABOUT))
    (collection / name.decode()).write_bytes(content)
    read = gallery.read(folder / "gallery")
    for each in read.exhibits:
        each.record()
        assert each.baseline and each.final
    if read.problems:
        raise CompressionError(read.problems[0])


def _exhibit_mutant(random: Random) -> bytes:
    name, value = random.choice((("about.json", ABOUT), ("run/spec.json", SPEC), ("run/result.json", RESULT)))
    return name.encode() + b"\n" + text_mutant(random, value)


def _events_mutant(random: Random) -> bytes:
    """One line changed; sometimes lines twice, in another order, or run together."""
    lines = [json.dumps(event).encode() for event in EVENTS]
    at = random.randrange(len(lines))
    lines[at] = text_mutant(random, EVENTS[at])
    if random.random() < 0.2:
        lines.insert(random.randrange(len(lines)), random.choice(lines))
    if random.random() < 0.1:
        random.shuffle(lines)
    return random.choice((b"\n", b"\n", b"\n", b"")).join(lines) + random.choice((b"\n", b"\n", b""))


@cache
def targets() -> dict[str, Target]:
    """Every format by name."""
    json_ones = [
        Target("budget", _one_of(*BUDGET), budget),
        Target("uploaded", _one_of(*BUDGET), uploaded),
        Target("address", address_mutant, address),
        Target("spec", _one_of(SPEC, SPEC, SWEEP), spec),
        Target("events", _events_mutant, events),
        Target("result", _one_of(RESULT, RESULT, *STUDIES), run_result),
        Target("process", _one_of(HANDLE), process),
        Target("side job", _one_of(SIDE_JOB), side_job),
        Target("allocation", _one_of(ALLOCATION), allocation),
        Target("explanation", _one_of(EXPLANATION), explanation),
        Target("gallery", _exhibit_mutant, exhibit),
    ]
    return {target.name: target for target in [*json_ones, *BINARY, *LAYERED]}
