"""The four stages of QASSO: their shares of a run, as a budget has them, and the optimizer steps they come to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from compression.asks import Ask
from compression.bounds import HIGHEST_BITS, MOST_PERIODS, check_number, check_share
from compression.errors import CompressionError
from compression.reading import Number, Whole, typed

WARM_UP, PROJECTION, JOINT, COOL_DOWN = "warm-up", "projection", "joint", "cool-down"
BITS_FIRST, BITS_LATE, PRUNE_FIRST, ACTIVATIONS_FIRST = "bits_first", "bits_late", "prune_first", "activations_first"


@dataclass(frozen=True)
class Order:
    """``stages`` in the order in which they come; ``reduces``: kind of bit-widths → the stage in which they fall."""

    stages: tuple[str, ...]
    reduces: Mapping[str, str]


_USUAL = (WARM_UP, PROJECTION, JOINT, COOL_DOWN)
ORDERS: Mapping[str, Order] = {
    BITS_FIRST: Order(_USUAL, {"weight": PROJECTION, "activation": PROJECTION}),
    BITS_LATE: Order((WARM_UP, JOINT, COOL_DOWN), {"weight": JOINT, "activation": JOINT}),
    PRUNE_FIRST: Order((WARM_UP, JOINT, PROJECTION, COOL_DOWN), {"weight": PROJECTION, "activation": PROJECTION}),
    ACTIVATIONS_FIRST: Order(_USUAL, {"weight": JOINT, "activation": PROJECTION}),
}
"""When bits fall: before units are removed, as published; while they are (the joint stage then takes the share of the
projection stage too); afterwards; or those of activations before and those of weights while units are removed."""


@dataclass(frozen=True)
class Schedule:
    """The stages as fractions of the run, of which the cool-down takes the remainder (GETA, section 4, QASSO).

    ``projection_periods`` is B, the number of equal reductions of the upper bit bound from ``start_bits`` down to the
    requested one; ``pruning_periods`` is P, the number of times redundant units are chosen.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    warmup: Number = 0.05
    projection: Number = 0.1
    projection_periods: Whole = 4
    joint: Number = 0.4
    pruning_periods: Whole = 6
    start_bits: Number = 16

    def __post_init__(self) -> None:
        check_number(self.start_bits, "schedule.start_bits")
        shares = {name: getattr(self, name) for name in ("warmup", "projection", "joint")}
        for name, value in shares.items():
            check_share(value, f"schedule.{name}")
        if sum(shares.values()) > 1:
            raise CompressionError(
                f"schedule: warmup + projection + joint must not exceed 1, but is {sum(shares.values()):g}"
            )
        for name in ("projection_periods", "pruning_periods"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MOST_PERIODS:
                raise CompressionError(f"schedule.{name} must be a whole number in 1..{MOST_PERIODS:,}, not {value!r}")


_SCHEDULE = TypeAdapter(Schedule)


@dataclass(frozen=True)
class StageSchedule(Ask):
    """How long the stages are, and in how many periods bits are reduced and units chosen; a file sets it."""

    field: str = "schedule"
    default: Schedule = Schedule()
    help: str = "shares of the stages, and their periods"

    def accept(self, value: Any) -> Schedule:
        """The schedule of a budget.

        Raises:
            CompressionError: naming the field that is unknown or impossible.
        """
        return typed(_SCHEDULE, value, "schedule")

    def check_highest(self, schedule: Schedule, highest: float) -> None:
        """Refuse a schedule that begins with fewer bits than it may end with.

        Raises:
            CompressionError: naming both.
        """
        if not highest <= schedule.start_bits <= HIGHEST_BITS:
            raise CompressionError(
                f"schedule.start_bits must lie between the requested upper bit bound {highest:g} and {HIGHEST_BITS}, "
                f"not {schedule.start_bits!r}"
            )


_ROUNDING = 1e-9


def _ends(schedule: Schedule, total_steps: int, order: str) -> dict[str, int]:
    """Stage → its last step; the cool-down gets at least one step."""
    shares = {WARM_UP: schedule.warmup, PROJECTION: schedule.projection, JOINT: schedule.joint}
    if PROJECTION not in ORDERS[order].stages:
        shares[JOINT] += shares.pop(PROJECTION)
    ends, share = {}, 0.0
    for stage in ORDERS[order].stages[:-1]:
        share += shares[stage]
        ends[stage] = min(round(share * total_steps), total_steps - 1)
    return {**ends, COOL_DOWN: total_steps}


def fitting(schedule: Schedule, total_steps: int, order: str = BITS_FIRST) -> Schedule:
    """The schedule with no more periods than its stages have steps for (one step a reduction, two a pruning period)."""
    stages = Stages(_ends(schedule, total_steps, order), 1, 1, order)
    projection = min(stages.steps(stage) for stage in ORDERS[order].reduces.values())
    return dataclasses.replace(
        schedule,
        projection_periods=max(1, min(schedule.projection_periods, projection)),
        pruning_periods=max(1, min(schedule.pruning_periods, stages.steps(JOINT) // 2)),
    )


@dataclass(frozen=True)
class Period:
    """Where a step lies in its pruning period: ``position`` runs from 1 to ``length``.

    The redundant units shrink at positions 1 … length - 1 and are committed after the last of these; the step at
    ``length`` is an ordinary one (paper section 4.3).
    """

    index: int
    position: int
    length: int

    @property
    def steps_to_shrink(self) -> int:
        """Shrinking steps that remain, this one included; 0 at the ordinary step that ends the period."""
        return self.length - self.position


@dataclass(frozen=True)
class Stages:
    """Steps count from 1. ``ends``: stage → its last step, in the order in which the stages come."""

    ends: Mapping[str, int]
    projection_periods: int
    pruning_periods: int
    order: str = BITS_FIRST

    @classmethod
    def from_schedule(
        cls, schedule: Schedule, total_steps: int, prunes: bool = True, order: str = BITS_FIRST
    ) -> Stages:
        """Turn fractions into steps; the cool-down, which makes the bit-widths whole, gets at least one.

        Raises:
            CompressionError: an unknown order, or the stages are longer than the run, or a requested one has fewer
                steps than its periods need.
        """
        if order not in ORDERS:
            raise CompressionError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
        shares = schedule.warmup + schedule.projection + schedule.joint
        if shares > 1 + _ROUNDING:
            raise CompressionError(f"the schedule is longer than the run: its three shares add up to {shares:g}")
        ends = _ends(schedule, total_steps, order)
        stages = cls(ends, schedule.projection_periods, schedule.pruning_periods, order)
        for stage in sorted(set(ORDERS[order].reduces.values()), reverse=True):
            steps, periods = stages.steps(stage), schedule.projection_periods
            if order != BITS_FIRST and steps == 0:
                raise CompressionError(f"order {order} needs a {stage} stage: schedule.{stage} must be above 0")
            if schedule.projection > 0 and steps < periods:
                raise CompressionError(
                    f"the {stage} stage has {steps} steps of the run's {total_steps}, fewer than its {periods} "
                    f"periods: train longer, lengthen schedule.{stage} or lower schedule.projection_periods"
                )
        steps, needed = stages.steps(JOINT), 2 * schedule.pruning_periods
        if prunes and steps < needed:
            raise CompressionError(
                f"the joint stage has {steps} steps of the run's {total_steps}, fewer than the {needed} it "
                "needs (two a period): train longer, lengthen schedule.joint or lower schedule.pruning_periods"
            )
        return stages

    @property
    def total(self) -> int:
        """The number of steps of the run."""
        return self.ends[COOL_DOWN]

    def before(self, stage: str) -> int:
        """The last step before ``stage``."""
        names = list(self.ends)
        return self.ends[names[names.index(stage) - 1]] if stage != names[0] else 0

    def steps(self, stage: str) -> int:
        """How many steps ``stage`` has."""
        return self.ends[stage] - self.before(stage)

    def stage(self, step: int) -> str:
        """The stage that ``step`` (from 1) belongs to."""
        return next((stage for stage, last in self.ends.items() if step <= last), COOL_DOWN)

    def starts(self) -> dict[str, int]:
        """Stage → its first step, for the stages that have any."""
        return {stage: self.before(stage) + 1 for stage in self.ends if self.steps(stage) > 0}

    def reductions(self, step: int, kind: str = "weight") -> int:
        """How many of the B equal reductions of the upper bit bound have happened, the one at ``step`` included.

        They come at the beginning of the periods, so the requested bound holds in the last period and afterwards.
        ``kind``: of the bit-widths, ``weight`` or ``activation``.
        """
        stage = ORDERS[self.order].reduces[kind]
        before = self.before(stage)
        if step <= before:
            return 0
        if step > self.ends[stage]:
            return self.projection_periods
        return (step - before - 1) * self.projection_periods // self.steps(stage) + 1

    def upper_bits(self, step: int, start_bits: float, high: float) -> float:
        """The upper bit bound at ``step`` for a layer whose final bound is ``high``; infinite in the warm-up."""
        if step <= self.ends[WARM_UP]:
            return math.inf
        return start_bits - (start_bits - high) * self.reductions(step) / self.projection_periods

    def share_of_joint(self, step: int) -> float:
        """How much of the joint stage is over after ``step``, which belongs to it."""
        return (step - self.before(JOINT)) / self.steps(JOINT)

    def period(self, step: int) -> Period:
        """Where ``step``, one of the joint stage, lies in its pruning period; periods differ by at most one step."""
        offset, steps = step - self.before(JOINT) - 1, self.steps(JOINT)
        index = ((offset + 1) * self.pruning_periods - 1) // steps
        begin, end = index * steps // self.pruning_periods, (index + 1) * steps // self.pruning_periods
        return Period(index, offset - begin + 1, end - begin)
