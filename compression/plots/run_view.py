"""A run as pages show it: its events sorted into points, steps and stages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compression.plots.base import RunStage
from compression.tasks import ACCURACY, Metric

ACTIVE = ("queued", "running")
Event = Mapping[str, Any]


@dataclass(frozen=True)
class RunView:
    """``baseline`` and ``final`` are points, ``decisions`` the events about groups, ``budget`` as its file has it.

    ``stages`` end where the next begins, the last one at the plan's end or where the run stopped; ``ahead``: the
    planned ones that an active run has not begun; ``worked`` are the
    seconds worked so far, without waiting and pauses; ``unit`` is what ``total_steps`` counts: ``steps``, or the
    ``layers`` of a method or ``runs`` of a sweep.
    """

    run: str
    state: str
    budget: Mapping[str, Any]
    points: tuple[Event, ...]
    steps: tuple[Event, ...]
    stages: tuple[RunStage, ...]
    baseline: Event | None
    final: Event | None
    total_steps: int | None
    unit: str
    worked: float
    error: str | None
    messages: tuple[str, ...]
    decisions: tuple[Event, ...] = ()
    metric: Metric = ACCURACY
    ahead: tuple[RunStage, ...] = ()

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.budget.get("method", ""))

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.budget.get("model"))

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.budget.get("data"))

    @property
    def active(self) -> bool:
        """Waiting or working."""
        return self.state in ACTIVE

    @property
    def step(self) -> int:
        """The furthest step reported."""
        return max((int(event["step"]) for event in (*self.points, *self.steps)), default=0)

    @property
    def progress(self) -> float:
        """The share of steps done, 0..1."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0

    def remaining(self, now: float | None = None) -> float | None:
        """Seconds to the end at the pace of the training steps so far; ``None`` while nothing can be said."""
        attempt = max((event.get("attempt", 1) for event in self.steps), default=1)
        timed = [event for event in self.steps if event["step"] > 0 and event.get("attempt", 1) == attempt]
        if not self.total_steps or len(timed) < 2 or not self.active:
            return None
        first = timed[0]
        done, spent = timed[-1]["step"] - first["step"], timed[-1]["t"] - first["t"]
        if done <= 0 or spent <= 0:
            return None
        since = max(0.0, (now if now is not None else time.time()) - timed[-1]["t"])
        return max(0.0, (self.total_steps - timed[-1]["step"]) * spent / done - since)


def run_view(
    run: str,
    state: str,
    budget: Mapping[str, Any],
    events: Sequence[Event],
    worked: float = 0.0,
    metric: Metric = ACCURACY,
) -> RunView:
    """Sort the events of a run (of each kind and step one, the last attempt's); ``worked`` is in seconds."""
    points = [event for event in events if event["kind"] == "point"]
    plan = next((event for event in reversed(events) if event["kind"] == "plan"), None)
    total = int(plan["total_steps"]) if plan and plan.get("total_steps") else None
    trail = [p for p in points if p.get("phase") not in ("baseline", "final")]
    final = next((p for p in reversed(points) if p.get("phase") == "final"), None)
    last = max((int(event["step"]) for event in events), default=0)
    end = max(total or 0, last) if state in ACTIVE or state == "done" else last
    by_time = sorted(events, key=lambda event: float(event["t"]), reverse=True)
    stages = tuple(_stages(events, end, str(budget.get("method", ""))))
    ahead = _ahead(plan or {}, stages, end, str(budget.get("method", ""))) if state in ACTIVE else ()
    if ahead and stages:
        stages = (*stages[:-1], replace(stages[-1], end=ahead[0].start))
    return RunView(
        run=run,
        state=state,
        budget=budget,
        points=tuple(trail),
        steps=tuple(event for event in events if event["kind"] == "step"),
        stages=stages,
        ahead=ahead,
        baseline=next((p for p in points if p.get("phase") == "baseline"), None),
        final=final,
        total_steps=total,
        unit=str(plan.get("unit") or "steps") if plan else "steps",
        worked=worked,
        error=next((event["error"] for event in by_time if event["kind"] == "state" and event.get("error")), None),
        messages=tuple(str(event["message"]) for event in events if event["kind"] == "log"),
        decisions=tuple(event for event in events if event["kind"] == "group"),
        metric=metric,
    )


def _stages(events: Sequence[Event], end: int, method: str) -> list[RunStage]:
    named = [event for event in events if event["kind"] == "phase" and event.get("phase") not in ("baseline", "final")]
    starts = [(str(event["phase"]), float(event["step"])) for event in named]
    ends = [*(start for _, start in starts), float(end)][1:]
    spans = zip(starts, ends, strict=True)
    return [RunStage(name, start, stop, method) for (name, start), stop in spans if stop > start]


def _ahead(plan: Event, begun: Sequence[RunStage], end: int, method: str) -> tuple[RunStage, ...]:
    """The stages of a plan (name → first step) that come after those that have begun."""
    starts = sorted((float(start), str(name)) for name, start in (plan.get("stages") or {}).items())
    last = begun[-1].start if begun else -1.0
    names = {stage.name for stage in begun}
    later = [(start, name) for start, name in starts if start > last and name not in names]
    ends = [*(start for start, _ in later), float(end)][1:]
    spans = zip(later, ends, strict=True)
    return tuple(RunStage(name, start, stop, method) for (start, name), stop in spans if stop > start)
