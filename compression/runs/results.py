"""What came of a run, whatever its state: the JSON object every consumer may rely on."""

from __future__ import annotations

from typing import Any

from compression.points import Point
from compression.runs.events import Event
from compression.runs.events import last_attempts
from compression.runs.folder import DONE
from compression.runs.folder import RUNNING
from compression.runs.folder import RunFolder
from compression.runs.resultfile import written

_EMPTY = ("baseline", "final", "ledger", "equality", "confusion")


def result(folder: RunFolder) -> dict[str, Any]:
    """``{"run", "status", "baseline", "final", "points", "ledger", "equality", "confusion", "seconds", ...}``.

    Of a run that is done, what it wrote; of any other, what its events tell (``error`` says why it stopped). A
    sweep has ``runs``, the results of its runs, and in ``points`` their final points.
    """
    events = folder.events()
    state = folder.state_of(events)
    if state == DONE and folder.result_path.is_file():
        return written(folder.result_path)
    if folder.is_sweep:
        return of_sweep(folder, state, events)
    told = {**_bare(folder, state, events), **_points(events)}
    told["error"] = next((event.get("error") for event in reversed(events) if event["kind"] == "state"), None)
    return told


def of_sweep(folder: RunFolder, state: str, events: list[Event]) -> dict[str, Any]:
    """The result of a sweep, from the results of its runs so far."""
    runs = [result(child) for child in folder.children()]
    told = _bare(folder, state, events)
    told["baseline"] = next((run["baseline"] for run in runs if run["baseline"]), None)
    told["points"] = [run["final"] for run in runs if run["final"]]
    told["runs"] = runs
    told["error"] = next((event.get("error") for event in reversed(events) if event["kind"] == "state"), None)
    return told


def _bare(folder: RunFolder, state: str, events: list[Event]) -> dict[str, Any]:
    return {"run": folder.id, "status": state, **dict.fromkeys(_EMPTY), "points": [], "seconds": seconds(events)}


def _points(events: list[Event]) -> dict[str, Any]:
    points = [Point.from_dict(event).to_dict() for event in last_attempts(events) if event["kind"] == "point"]
    named = {name: next((p for p in points if p["phase"] == name), None) for name in ("baseline", "final")}
    return {**named, "points": points}


def seconds(events: list[Event]) -> float:
    """Seconds worked: of each attempt from its first event to its last, waiting and pauses in between left out."""
    spans: dict[int, tuple[float, float]] = {}
    stopped: set[int] = set()  # what is told after an attempt's end is not its work
    for event in events:
        attempt = event["attempt"]
        if attempt not in stopped:
            spans[attempt] = (spans.get(attempt, (event["t"], 0.0))[0], event["t"])
        if event["kind"] == "state" and event["state"] != RUNNING:
            stopped.add(attempt)
    return round(sum(last - first for first, last in spans.values()), 3)
