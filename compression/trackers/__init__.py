"""Experiment trackers: a copy of what the events of a run say, for TensorBoard or MLflow.

The run's folder stays the truth: a tracker follows it from outside, so that no run waits for one or fails with one, and
runs of a cluster, finished runs and those of the gallery can be handed over as well.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from compression.errors import CompressionError
from compression.home import optional
from compression.runs.events import Event, read_events
from compression.runs.folder import IDLE, RunFolder
from compression.runs.results import result
from compression.runs.summary import flat

TRACKERS = ("tensorboard", "mlflow")
"""Each is a module of this package with a function ``tracker(folder, out) -> Tracker``."""
POLL_SECONDS = 1.0
_ABOUT = frozenset({"v", "t", "attempt", "kind", "step", "epoch"})
_SCORED = ("score", "loss")


class Tracker(Protocol):
    """Where a run is written to."""

    place: str
    offset: int
    """The byte of the events from which on the tracker lacks them: 0 for a new run, or for one that is written anew."""

    def write(self, events: list[Event], offset: int) -> None:
        """More events; ``offset`` is where the next ones begin."""

    def finish(self, state: str, outcome: dict[str, Any]) -> None:
        """The run is at rest in this state, with this result."""


@dataclass(frozen=True)
class Scalar:
    """One number: ``tag`` says what it is, ``step`` is the step of training, ``seconds`` are since 1970."""

    tag: str
    value: float
    step: int
    seconds: float


def scalars(event: Event) -> Iterator[Scalar]:
    """The numbers of an event: ``train/…`` of a step; score and loss of a point by its split; ``model/…`` for what the
    model of a point is (bytes, BOPs, shares of zeros).
    """
    if event["kind"] == "step":
        named = {f"train/{name}": value for name, value in event.items() if name not in _ABOUT}
    elif event["kind"] == "point":
        named = {f"{event['split']}/{name}": event.get(name) for name in _SCORED}
        named |= {f"model/{name}": value for name, value in event.items() if name not in {*_ABOUT, *_SCORED}}
        metric = event.get("metric") or "accuracy"
        named.pop(f"model/{metric}", None)  # the score under the metric's own name
        named[f"{event['split']}/{metric}"] = named.pop(f"{event['split']}/score", None)
    else:
        return
    for tag, value in named.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            yield Scalar(tag, float(value), event["step"], event["t"])


def settings(folder: RunFolder) -> dict[str, str]:
    """The budget of a run as flat words, which trackers call parameters."""
    return {name: str(value) for name, value in flat(folder.budget().to_dict()) if value is not None}


def track(folder: RunFolder, name: str, out: str | None = None, poll: float = POLL_SECONDS) -> str:
    """Hand a run over to a tracker and follow it until it is at rest; returns where it is to be seen.

    ``out``: a folder or an address (default: the tracker's own choice, see its module). Handing the same run over again
    adds what is new.

    Raises:
        CompressionError: no such tracker, its package is not installed, it cannot be written to, or the run cannot be
            read.
    """
    tracker = opener(name)(folder, out)
    offset = tracker.offset
    while True:
        state = folder.state  # before the events: whatever comes before a last state is then among them
        events, offset = read_events(folder.events_path, offset)
        tracker.write(events, offset)
        if state in IDLE:
            break
        if not events:
            time.sleep(poll)
    tracker.finish(state, result(folder))
    return tracker.place


def opener(name: str) -> Callable[[RunFolder, str | None], Tracker]:
    """The function that opens a tracker.

    Raises:
        CompressionError: no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise CompressionError(f"tracker must be one of {', '.join(TRACKERS)}, not {name}")
    with optional():
        module = importlib.import_module(f"{__name__}.{name}")
    function: Callable[[RunFolder, str | None], Tracker] = module.tracker
    return function
