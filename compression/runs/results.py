"""The result of a run, whatever its state: the JSON object every consumer may rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.points import Point
from compression.runs.events import Event, last_attempts
from compression.runs.files import sha256
from compression.runs.folder import DONE, FAILED, LOST, QUEUED, RUNNING, RunFolder
from compression.runs.resultfile import WAY_OUT, written

_EMPTY = ("baseline", "final", "ledger", "equality", "confusion")


def result(folder: RunFolder) -> dict[str, Any]:
    """``{"run", "status", "baseline", "final", "points", "ledger", "equality", "confusion", "seconds", ...}``.

    ``attempts`` is how many it took: 1, and one more for each time it was resumed.

    Of a run that is done, what it wrote; of any other, what its events hold (``error`` is why it stopped). A
    sweep has ``runs``, the results of its runs, and in ``points`` their final points.
    """
    events = folder.events()
    state = folder.state_of(events)
    if state == DONE and folder.result_path.is_file():
        stored = written(folder.result_path)
        _check_digest(folder.result_path, events)
        return stored
    if folder.is_sweep:
        return of_sweep(folder, state, events)
    derived = {**_bare(folder, state, events), **_points(events), **_metric(folder)}
    derived["error"] = next((event.get("error") for event in reversed(events) if event["kind"] == "state"), None)
    return derived


def _check_digest(path: Path, events: list[Event]) -> None:
    """Refuse a result that is not the one which the run recorded, in versions that record it.

    Raises:
        CompressionError: it was edited, or is that of another run.
    """
    expected = next((event.get("result_sha256") for event in reversed(events) if event["kind"] == "state"), None)
    if expected is not None and sha256(path) != expected:
        raise CompressionError(f"result {path} is not the one that the run wrote; {WAY_OUT}")


def of_sweep(folder: RunFolder, state: str, events: list[Event]) -> dict[str, Any]:
    """The result of a sweep, from the results of its runs so far; an unreadable one has failed, with the reason."""
    runs = [part for name in folder.child_ids() if (part := _part(folder, name)) is not None]
    summary = _bare(folder, state, events)
    summary["baseline"] = next((run["baseline"] for run in runs if run["baseline"]), None)
    summary["points"] = [run["final"] for run in runs if run["final"]]
    summary["runs"] = runs
    summary |= next(({"metric": run["metric"]} for run in runs if run.get("metric")), {})
    summary["error"] = next((event.get("error") for event in reversed(events) if event["kind"] == "state"), None)
    return summary


def _part(folder: RunFolder, name: str) -> dict[str, Any] | None:
    """The result of one run of a sweep, None when it does not exist yet."""
    try:
        child = folder.child(name)
        return None if child is None else result(child)
    except CompressionError as error:
        return {**_bare(RunFolder(folder.path.parent / name), FAILED, []), "error": str(error)}


def _bare(folder: RunFolder, state: str, events: list[Event]) -> dict[str, Any]:
    attempts = max((event["attempt"] for event in events), default=0)
    empty: dict[str, Any] = {"run": folder.id, "status": state, **dict.fromkeys(_EMPTY), "points": []}
    return {**empty, "attempts": attempts, "seconds": seconds(events)}


def _metric(folder: RunFolder) -> dict[str, Any]:
    """What the run is measured by, as its spec has it; specs of version 0.1.0 do not."""
    metric = (folder.spec().get("subject") or {}).get("metric")
    return {"metric": metric} if metric else {}


def _points(events: list[Event]) -> dict[str, Any]:
    points = [Point.from_dict(event).to_dict() for event in last_attempts(events) if event["kind"] == "point"]
    named = {name: next((p for p in points if p["phase"] == name), None) for name in ("baseline", "final")}
    return {**named, "points": points}


def seconds(events: list[Event]) -> float:
    """Seconds worked: of each attempt from its first event to its last, waiting and pauses in between left out.

    What others report of a stopped run (that it is queued again, or lost) is none of its work.
    """
    spans: dict[int, tuple[float, float]] = {}
    stopped: set[int] = set()  # what is reported after an attempt's end is not its work
    for event in events:
        attempt = event["attempt"]
        state = event["state"] if event["kind"] == "state" else RUNNING
        if attempt not in stopped and state not in (QUEUED, LOST):
            spans[attempt] = (spans.get(attempt, (event["t"], 0.0))[0], event["t"])
        if state != RUNNING:
            stopped.add(attempt)
    return round(sum(max(0.0, last - first) for first, last in spans.values()), 3)
