"""How long a run will take on this machine, from what earlier runs took here; nothing is measured for it.

The seconds of a run are those of its training, which grow with its epochs, and the others (data, baseline, packing,
measuring), which do not. Of the last runs of the same method, model and data the median counts; else of other methods
that train the same model on the same data; else of other models on the same data, by their MACs.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.runs.events import Event
from compression.runs.folder import DONE, RunFolder
from compression.runs.index import RunInfo
from compression.runs.results import seconds

Source = Literal["same", "method", "model"]
MOST_RUNS = 5
WORDS = {"same": "", "method": " of other methods", "model": " of other models, by their MACs"}


@dataclass(frozen=True)
class Pace:
    """What a finished run took: ``epoch`` seconds for an epoch of training, ``rest`` seconds for everything else.

    ``macs``: multiply-accumulates of the dense network for one example; 0: unknown.
    """

    epoch: float
    rest: float
    macs: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """Seconds that a run will take, the number of ``runs`` that say so, and how near these are to it."""

    seconds: float
    runs: int
    source: Source

    @property
    def basis(self) -> str:
        """Where it comes from, as the end of a sentence: ``from 3 earlier runs``."""
        return f"from {self.runs} earlier run{'s' * (self.runs != 1)}{WORDS[self.source]}"


def of_events(events: Sequence[Event], epochs: float) -> Pace | None:
    """The pace of a finished run of ``epochs`` epochs; ``None``: it was resumed, ran elsewhere, or says too little.

    The time of its training is that between the first and the last step written, stretched to all of its steps.
    """
    began = next((event for event in events if event["kind"] == "state" and event.get("host")), None)
    if max((event["attempt"] for event in events), default=0) != 1 or (began and began["host"] != platform.node()):
        return None
    whole = seconds(list(events))
    steps = [event for event in events if event["kind"] == "step"]
    plan = next((event for event in events if event["kind"] == "plan"), None)
    macs = next((float(event.get("macs") or 0) for event in events if event["kind"] == "point"), 0.0)
    if plan is None or len(steps) < 2 or steps[-1]["step"] <= steps[0]["step"]:
        return Pace(0.0, whole, macs)
    step = (steps[-1]["t"] - steps[0]["t"]) / (steps[-1]["step"] - steps[0]["step"])
    trained = min(whole, step * plan["total_steps"])
    return Pace(trained / epochs, whole - trained, macs)


def of_run(folder: RunFolder) -> Pace | None:
    """The pace of a run; ``None`` also where its files cannot be read."""
    try:
        return of_events(folder.events(), folder.budget().epochs)
    except CompressionError:
        return None


def estimate(
    budget: Budget, infos: Iterable[RunInfo], pace: Callable[[str], Pace | None], macs: float = 0.0
) -> Estimate | None:
    """How long a run of this budget takes; ``None``: no earlier run says anything about it.

    Args:
        infos: the runs of this machine, newest first. pace: run id -> :func:`of_run`. macs: of the dense network.
    """
    done = [info for info in infos if info.state == DONE and not info.runs and info.data == budget.data]
    name, trains = methods.get(budget.method).info.name, methods.get(budget.method).trains(budget)
    alike = [info for info in done if info.model == budget.model]
    others = [info for info in done if info.model != budget.model]
    tiers: list[tuple[Source, list[RunInfo]]] = [
        ("same", [info for info in alike if info.method == name]),
        ("method", alike),
        ("model", [info for info in others if info.method == name]),
    ]
    for source, chosen in tiers:
        usable = [info for info in chosen if _trains(info) == trains]
        paces = [each for info in usable[:MOST_RUNS] if (each := pace(info.id)) is not None]
        if source == "model":
            paces = [_scaled(each, macs / each.macs) for each in paces if each.macs and macs]
        if paces:
            total = statistics.median(each.rest + each.epoch * (budget.epochs if trains else 0.0) for each in paces)
            return Estimate(total, len(paces), source)
    return None


def remaining(events: Sequence[Event]) -> float | None:
    """Seconds until the planned steps are done at the pace of those written so far; ``None``: too few are."""
    plan: dict[str, Any] = next((event for event in reversed(events) if event["kind"] == "plan"), {})
    steps = [event for event in events if event["kind"] == "step"]
    if not plan or len(steps) < 2 or steps[-1]["step"] <= steps[0]["step"]:
        return None
    step = (steps[-1]["t"] - steps[0]["t"]) / (steps[-1]["step"] - steps[0]["step"])
    return max(0.0, step * (plan["total_steps"] - steps[-1]["step"]))


def _trains(info: RunInfo) -> bool:
    """Whether a listed run trained; one whose budget cannot be read counts as not."""
    try:
        budget = Budget.from_dict(info.budget)
        return methods.get(budget.method).trains(budget)
    except CompressionError:
        return False


def _scaled(pace: Pace, share: float) -> Pace:
    return Pace(pace.epoch * share, pace.rest * share, pace.macs * share)
