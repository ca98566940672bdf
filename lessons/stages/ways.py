"""Recorded runs that differ in how channels are forgotten: what is left to cut, and what the cut does to the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from compression.methods.geta.joint import PUBLISHED, UNIFORM
from lessons import recorded
from lessons.recorded import Recorded

COLLECTION = "resnet8-fashion_mnist"
WAYS = {PUBLISHED: "as published", UNIFORM: "evenly"}
RUN = "geta-w4-s30-"
SEEDS = ("", "-seed1", "-seed2")
BEFORE, AFTER, JUMP = 20, 10, 3  # steps of the loss before a cut, after it, and those whose mean is called the jump


def replayed(way: str) -> Recorded:
    """The run that forgets this way."""
    return recorded.run(RUN + way, COLLECTION)


def size(group: Mapping[str, Any]) -> float:
    """|c|, the size of a group's leaving channels, from what a decision holds: cosine = <c, h> / (|c| |h|)."""
    product = abs(group["cosine"]) * math.sqrt(group["hh"])
    return float(abs(group["ch"]) / product) if product else 0.0


@dataclass(frozen=True)
class Cut:
    """One pruning period: when its units were chosen and last shrunk, and what that did.

    ``sizes``: step → size of the leaving channels before that step, as a share of their size when they were chosen;
    ``remaining``: that share after the last shrinking step, which is cut (0 where gamma is 1: at most half a rounding
    step a value is left, which the quantized network computes with as 0). ``before`` and ``after``: mean training loss
    of the :data:`BEFORE` steps until it is cut, and of the :data:`JUMP` after it (``None`` after the last cut of a run,
    where only one of these is recorded).
    """

    first: int
    last: int
    sizes: Mapping[int, float]
    remaining: float
    before: float
    after: float | None

    @property
    def jump(self) -> float | None:
        """The loss just after, in multiples of that before."""
        return None if self.after is None else self.after / self.before


@lru_cache(maxsize=8)
def cuts(name: str) -> tuple[Cut, ...]:
    """The pruning periods of a run of the collection, in order."""
    run = recorded.run(name, COLLECTION)
    return tuple(_cut(run, first, last) for first, last in zip(run.choices, run.commits, strict=True))


def _cut(run: Recorded, first: int, last: int) -> Cut:
    joint = {step: e["joint"].values() for step, e in run.decisions.items() if first <= step <= last}
    sizes = {step: math.hypot(*map(size, groups)) for step, groups in joint.items()}
    remaining = math.hypot(*((1 - group["rate"]) * size(group) for group in joint[last]))
    before = fmean(run.losses[step] for step in range(last - BEFORE + 1, last + 1))
    following = [run.losses[step] for step in range(last + 1, last + JUMP + 1) if step in run.losses]
    after = fmean(following) if len(following) == JUMP else None
    shares = {step: each / sizes[first] for step, each in sizes.items()}
    return Cut(first, last, shares, remaining / sizes[first], before, after)


def around(way: str) -> list[tuple[int, float]]:
    """(steps after the cut, training loss), the mean over the cuts of all seeds but their last ones.

    At 0 is the last loss before a cut.
    """
    runs = [recorded.run(RUN + way + seed, COLLECTION) for seed in SEEDS]
    cut = [(run.losses, last) for run in runs for last in run.commits[:-1]]
    return [(by, fmean(losses[last + by] for losses, last in cut)) for by in range(1 - BEFORE, AFTER + 1)]


@dataclass(frozen=True)
class Totals:
    """One way over the runs of all seeds: means of what is ``cut``, of the ``jump`` and of the test ``accuracy``.

    ``slowed``: share of the decisions whose rate is below a twentieth of the even one; ``spread``: the largest distance
    of a seed's accuracy from another's.
    """

    cut: float
    jump: float
    slowed: float
    accuracy: float
    spread: float


@lru_cache(maxsize=2)
def totals(way: str) -> Totals:
    """The means of a way over the runs of all seeds."""
    names = [RUN + way + seed for seed in SEEDS]
    every = [each for name in names for each in cuts(name)]
    runs = [recorded.run(name, COLLECTION) for name in names]
    accuracies = [run.result["final"]["accuracy"] for run in runs]
    groups = [group for run in runs for event in run.decisions.values() for group in event["joint"].values()]
    return Totals(
        cut=fmean(each.remaining for each in every),
        jump=fmean(each.jump for each in every if each.jump is not None),
        slowed=fmean(group["rate"] < 0.05 * group["uniform"] for group in groups),
        accuracy=fmean(accuracies),
        spread=max(accuracies) - min(accuracies),
    )
