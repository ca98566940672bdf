"""Finished runs of the gallery, as lessons replay them: their events, budget and result, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.runs import view_model
from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.geta.schedule import Stages, fitting
from compression.reading import read_object
from compression.runs.events import Event, last_attempts, read_events

GALLERY = Path(__file__).resolve().parents[3] / "assets" / "gallery"
COLLECTION = "resnet20-cifar10jpeg"


@dataclass(frozen=True, eq=False)
class Recorded:
    """One run: what it told while it went, and what came of it."""

    name: str
    events: tuple[Event, ...]
    story: view_model.Story
    budget: Budget
    result: Mapping[str, Any]

    @property
    def decisions(self) -> dict[int, Event]:
        """Step → the event of a joint step with its inequality, in order."""
        return {int(e["step"]): e for e in self.events if e["kind"] == "group" and e.get("joint")}

    @property
    def choices(self) -> dict[int, Event]:
        """Step → the event that says which units a pruning period takes, in order."""
        return {int(e["step"]): e for e in self.events if e["kind"] == "group" and e.get("chosen")}

    @property
    def stages(self) -> Stages:
        """The stages in steps."""
        total = self.story.total_steps or 0
        return Stages.of(fitting(self.budget.schedule, total), total)


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The finished runs of the collection."""
    return tuple(sorted(path.parent.name for path in (GALLERY / COLLECTION).glob("*/result.json")))


@lru_cache(maxsize=64)
def result(name: str) -> Mapping[str, Any]:
    """What came of a run, without its events.

    Raises:
        CompressionError: there is none of this name.
    """
    if name not in names():
        raise CompressionError(f"the gallery has no run {name!r}")
    return read_object(GALLERY / COLLECTION / name / "result.json", f"the result of {name}")


@lru_cache(maxsize=16)
def run(name: str) -> Recorded:
    """Read a run of the gallery.

    Raises:
        CompressionError: there is none of this name.
    """
    ended, folder = result(name), GALLERY / COLLECTION / name
    events = last_attempts(read_events(folder / "events.jsonl")[0])
    spec = read_object(folder / "spec.json", f"the spec of {name}")
    told = view_model.tell(name, "done", spec["budget"], events)
    return Recorded(name, tuple(events), told, Budget.from_dict(spec["budget"]), ended)
