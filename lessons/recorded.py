"""Finished runs of the gallery, as lessons replay them: their events, budget and result, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from compression.budget import Budget
from compression.methods.geta.options import SCHEDULE
from compression.methods.geta.schedule import Stages, fitting
from compression.reading import read_object
from compression.runs.events import Event, last_attempts
from compression.runs.folder import RunFolder

GALLERY = Path(__file__).resolve().parents[1] / "assets" / "gallery"
COLLECTION = "resnet20-cifar10jpeg"
UNTIMED = ("baseline", "final")  # phases of points that were measured before and after the steps


@dataclass(frozen=True, eq=False)
class Recorded:
    """One run: its events, its budget and its result."""

    events: list[Event]
    budget: Budget
    result: Mapping[str, Any]

    @cached_property
    def total_steps(self) -> int:
        """All training steps."""
        return next(int(event["total_steps"]) for event in self.events if event["kind"] == "plan")

    @cached_property
    def points(self) -> list[Event]:
        """What was measured between the steps."""
        return [event for event in self.events if event["kind"] == "point" and event["phase"] not in UNTIMED]

    @cached_property
    def phases(self) -> list[tuple[str, int, int]]:
        """(name, first step, last step) of the stages as they were run."""
        starts = [event for event in self.events if event["kind"] == "phase" and event["phase"] not in UNTIMED]
        ends = [*(int(event["step"]) for event in starts[1:]), self.total_steps]
        return [(event["phase"], int(event["step"]), end) for event, end in zip(starts, ends, strict=True)]

    @cached_property
    def decisions(self) -> dict[int, Event]:
        """Step → the event of a joint step with its inequality, in order."""
        return {int(e["step"]): e for e in self.events if e["kind"] == "group" and e.get("joint")}

    @cached_property
    def losses(self) -> dict[int, float]:
        """Step → training loss of its batch, before the step changes anything; of the steps that were recorded."""
        return {int(e["step"]): float(e["loss"]) for e in self.events if e["kind"] == "step"}

    @cached_property
    def commits(self) -> list[int]:
        """The last shrinking step of every pruning period: after it the period's units are set to zero."""
        return [step for step, e in self.decisions.items() if any(g["uniform"] == 1 for g in e["joint"].values())]

    @cached_property
    def choices(self) -> dict[int, Event]:
        """Step → the event that says which units a pruning period takes, in order."""
        return {int(e["step"]): e for e in self.events if e["kind"] == "group" and e.get("chosen")}

    @cached_property
    def stages(self) -> Stages:
        """The stages in steps, as the budget plans them."""
        schedule = SCHEDULE.value(self.budget.asks)
        return Stages.from_schedule(fitting(schedule, self.total_steps), self.total_steps)


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The finished runs of the collection."""
    return tuple(sorted(path.parent.name for path in (GALLERY / COLLECTION).glob("*/result.json")))


@lru_cache(maxsize=64)
def result(name: str, collection: str = COLLECTION) -> Mapping[str, Any]:
    """The result of a run, without its events.

    Raises:
        CompressionError: there is none of this name.
    """
    return read_object(GALLERY / collection / name / "result.json", f"the result of {name}")


@lru_cache(maxsize=16)
def run(name: str, collection: str = COLLECTION) -> Recorded:
    """Read a run of the gallery.

    Raises:
        CompressionError: there is none of this name.
    """
    folder = RunFolder.open(GALLERY / collection, name)
    return Recorded(last_attempts(folder.events()), folder.budget(), result(name, collection))
