"""A run as its pages tell it: what was asked, where it stands, and the events sorted into points, steps and stages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app import theme, words
from app.figures.base import Stage

ACTIVE = ("queued", "running")
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Story:
    """``baseline`` and ``final`` are points, ``decisions`` what was told of groups.

    ``stages`` end where the next begins, the last one at the plan's end or where the run stopped; ``worked`` are the
    seconds worked so far, without waiting and pauses; ``unit`` is what ``total_steps`` counts: ``steps``, or the
    ``layers`` of a method or ``runs`` of a sweep.
    """

    run: str
    state: str
    budget: Mapping[str, Any]
    points: tuple[Event, ...]
    steps: tuple[Event, ...]
    stages: tuple[Stage, ...]
    baseline: Event | None
    final: Event | None
    total_steps: int | None
    unit: str
    worked: float
    error: str | None
    messages: tuple[str, ...]
    decisions: tuple[Event, ...] = ()

    @property
    def active(self) -> bool:
        """Waiting or working."""
        return self.state in ACTIVE

    @property
    def step(self) -> int:
        """The furthest step told of."""
        return max((int(event["step"]) for event in (*self.points, *self.steps)), default=0)

    @property
    def progress(self) -> float:
        """The share of steps done, 0..1."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0

    def left(self, now: float | None = None) -> float | None:
        """Seconds still to go at the pace of the training steps so far; ``None`` while nothing can be said."""
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


def tell(run: str, state: str, budget: Mapping[str, Any], events: Sequence[Event], worked: float = 0.0) -> Story:
    """Sort the events of a run (each kind and step told once: the last attempt's); ``worked`` is in seconds."""
    points = [event for event in events if event["kind"] == "point"]
    plan = next((event for event in reversed(events) if event["kind"] == "plan"), None)
    total = int(plan["total_steps"]) if plan and plan.get("total_steps") else None
    trail = [p for p in points if p.get("phase") not in ("baseline", "final")]
    final = next((p for p in reversed(points) if p.get("phase") == "final"), None)
    last = max((int(event["step"]) for event in events), default=0)
    goes_on = state in ACTIVE or state == "done"
    by_time = sorted(events, key=lambda event: float(event["t"]), reverse=True)
    return Story(
        run=run,
        state=state,
        budget=budget,
        points=tuple(trail),
        steps=tuple(event for event in events if event["kind"] == "step"),
        stages=tuple(_stages(events, max(total or 0, last) if goes_on else last)),
        baseline=next((p for p in points if p.get("phase") == "baseline"), None),
        final=final,
        total_steps=total,
        unit=str(plan.get("unit") or "steps") if plan else "steps",
        worked=worked,
        error=next((event["error"] for event in by_time if event["kind"] == "state" and event.get("error")), None),
        messages=tuple(str(event["message"]) for event in events if event["kind"] == "log"),
        decisions=tuple(event for event in events if event["kind"] == "group"),
    )


def _stages(events: Sequence[Event], end: int) -> list[Stage]:
    named = [event for event in events if event["kind"] == "phase" and event.get("phase") not in ("baseline", "final")]
    starts = [(str(event["phase"]), float(event["step"])) for event in named]
    ends = [*(start for _, start in starts), float(end)][1:]
    return [Stage(name, start, stop) for (name, start), stop in zip(starts, ends, strict=True) if stop > start]


def describe(budget: Mapping[str, Any]) -> str:
    """A budget in a few words: ``resnet8 on mnist5k, 50 % of units, 4–8 bits``."""
    return f"{subject(str(budget.get('model')), str(budget.get('data')))}, {asked(budget)}"


def title(run: str, budget: Mapping[str, Any], runs: int = 0) -> str:
    """Which run it is, told apart from others that asked the same: ``GETA, 50 % of units, 4–8 bits (…164e)``.

    ``runs``: of a sweep, how many runs go with it.
    """
    said = f"sweep of {runs} runs" if runs else asked(budget)
    return f"{theme.style(str(budget.get('method'))).label}, {said} (…{run[-4:]})"


def subject(model: str, data: str) -> str:
    """Model and data in a few words: ``resnet8 on mnist5k``."""
    return f"{model_label(model)} on {data_label(data)}"


def asked(budget: Mapping[str, Any]) -> str:
    """Sparsity and bits of a budget in a few words."""
    method, sparsity = budget.get("method"), words.share(budget.get("sparsity"), 0)
    low, high = budget.get("weight_bits") or (4, 8)
    if method in ("opq", "magnitude"):
        return f"{sparsity} of weights, {_average(budget)}"
    text = _average(budget) if method == "ptq" else f"{sparsity} of units, {_top(method, low, high)}"
    acts = budget.get("activation_bits")
    return f"{text}, activations {_top(method, *acts)}" if acts else text


def _average(budget: Mapping[str, Any]) -> str:
    bits = budget.get("bits", 4)
    return f"{bits if budget.get('method') == 'opq' else int(bits):g} bits"


def _top(method: Any, low: float, high: float) -> str:
    """A range of bits, of which the baselines take the upper end."""
    return f"{int(high)} bits" if method in ("sequential", "ptq") else words.bits((low, high))


def model_label(model: str) -> str:
    """A model's short name: a function of the operator's by its file's last part and its own name."""
    file, _, function = model.rpartition(":")
    return f"{file.rpartition('/')[2]}: {function}" if file.endswith(".py") else model


def data_label(data: str) -> str:
    """A data set's short name: folders by their last part."""
    return data.rstrip("/").rpartition("/")[2] or data
