"""When each unit of a network leaves during a run: still there, chosen and fading, gone.

A run tells of it in ``group`` events (:mod:`compression.runs.events`): the units of all groups at the beginning, those
that are chosen, how fast their groups are forgotten, and in the end all that were removed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compression.plots.base import RunStage
from compression.plots.run import bits_at

Event = Mapping[str, Any]
FIGURES = 4  # of a share that is drawn
MOST_CELLS = 200_000  # that a browser draws at once


@dataclass(frozen=True)
class Leaving:
    """Units of one group that leave together: chosen at step ``start``, exactly zero after step ``end``.

    ``steps``, ``shares``: how much of them is left after these steps, from 1 at ``start`` on. ``scores`` are those that
    they were chosen by, least first; empty where the run does not say.
    """

    group: str
    units: tuple[int, ...]
    start: float
    end: float
    steps: tuple[float, ...]
    shares: tuple[float, ...]
    scores: tuple[float, ...] = ()

    def share_left(self, step: float) -> float:
        """How much of each is left after a step, 1 to 0; straight lines between what was reported."""
        if step >= self.end:
            return 0.0
        after = bisect_right(self.steps, step)
        if after in (0, len(self.steps)):
            return self.shares[max(0, after - 1)]
        (x0, y0), (x1, y1) = ((self.steps[i], self.shares[i]) for i in (after - 1, after))
        return y0 + (y1 - y0) * (step - x0) / (x1 - x0)


@dataclass(frozen=True)
class UnitsInfo:
    """``sizes``: group → how many units it has. ``bits``: after these steps, group → bits of its first layer's weights.

    ``end``: the step that the run has come to; ``total``: its last one;
    ``counted`` is what steps are of.
    """

    sizes: Mapping[str, int]
    leaving: tuple[Leaving, ...]
    bits: tuple[tuple[float, Mapping[str, float]], ...]
    end: float
    total: float
    counted: str = "steps"

    @property
    def drawable(self) -> bool:
        """Is there something to draw, and not too much of it?"""
        return 0 < sum(self.sizes.values()) <= MOST_CELLS

    @property
    def chosen(self) -> int:
        """How many units are gone or chosen to go."""
        return sum(len(each.units) for each in self.leaving)

    def zero_after(self, step: float) -> int:
        """How many units are exactly zero after a step."""
        return sum(len(each.units) for each in self.leaving if step >= each.end)

    def share_left(self, group: str, unit: int, step: float) -> float:
        """How much of one unit is left after a step, 1 to 0."""
        return min((each.share_left(step) for each in self.leaving if each.group == group and unit in each.units),
                   default=1.0)  # fmt: skip

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each unit that leaves, in the order in which they are chosen."""
        return [
            {
                "group": each.group,
                "unit": unit,
                "score": each.scores[place] if each.scores else None,
                "chosen at step": round(each.start),
                "zero after step": round(each.end),
            }
            for each in sorted(self.leaving, key=lambda each: each.start)
            for place, unit in enumerate(each.units)
        ]

    @property
    def payload(self) -> dict[str, Any]:
        """All of it as JSON values, for the browser to draw any moment of."""
        return {
            "groups": [{"id": group, "units": units} for group, units in self.sizes.items()],
            "leaving": [
                {
                    "group": each.group, "units": each.units, "start": each.start, "end": each.end,
                    "steps": each.steps, "shares": [float(f"{share:.{FIGURES}g}") for share in each.shares],
                }
                for each in self.leaving
            ],
            "bits": [{"step": step, "bits": dict(bits)} for step, bits in self.bits],
            "end": self.end, "total": self.total, "unit": self.counted,
        }  # fmt: skip


def units_info(
    events: Sequence[Event],
    points: Sequence[Event],
    stages: Sequence[RunStage],
    end: float,
    total: float,
    counted: str = "steps",
    sizes: Mapping[str, int] | None = None,
) -> UnitsInfo:
    """From the ``group`` events of a run and its points; without a group where nothing says how many units there are.

    ``sizes``: of runs that did not say it yet (before version 0.2).
    """
    stated = next((event for event in events if "sizes" in event), {})
    known = dict(stated.get("sizes") or sizes or {})
    layers = stated.get("layers", {})
    leaving = tuple(each for each in _leaving(events, stages, end) if each.group in known)
    bits = tuple((float(point["step"]), _bits(point, known, layers)) for point in points)
    return UnitsInfo(known, leaving, bits, end, max(total, end), counted)


def _bits(point: Event, groups: Iterable[str], layers: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Group → bits of its first layer that has any; nothing where weights are still floats."""
    widths: dict[str, float] = {}
    for group in groups:
        known = (bits_at(point, layer) for layer in (group, *layers.get(group, ())))
        first = next((bits for bits in known if bits is not None), None)
        if first is not None:
            widths[group] = first
    return widths


@dataclass
class _Fade:
    """What is known so far of units that leave."""

    group: str
    units: tuple[int, ...]
    scores: tuple[float, ...]
    start: float
    end: float
    rates: list[tuple[float, float]] = field(default_factory=list)
    """(step, γ): the share that each step from this one on takes away."""

    def leaving(self) -> Leaving:
        """γ of a step that was not reported is that of the last one before it; without any, units fade evenly."""
        steps, shares = [self.start], [1.0]
        ends = [*(step for step, _ in self.rates[1:]), self.end]
        for (step, rate), until in zip(self.rates, ends, strict=True) if self.rates else ():
            steps.append(until)
            # each of the steps up to the next report multiplies what is left by 1 - γ
            shares.append(shares[-1] * (1.0 - min(1.0, rate)) ** max(0.0, until - step))
        if not self.rates:
            steps, shares = [self.start, self.end], [1.0, 0.0]
        return Leaving(self.group, self.units, self.start, self.end, tuple(steps), tuple(shares), self.scores)


def _leaving(events: Sequence[Event], stages: Sequence[RunStage], end: float) -> Iterator[Leaving]:
    fades: list[_Fade] = []
    removed: dict[str, set[int]] = {}
    choices = [float(event["step"]) for event in events if event.get("chosen")]
    for event in sorted(events, key=lambda event: float(event["step"])):
        step = float(event["step"])
        for group, units in event.get("chosen", {}).items():
            if not units:
                continue
            until = event.get("until", _until(step, choices, stages, end))
            numbers, scores = zip(*units, strict=True)
            fades.append(_Fade(group, numbers, scores, step, float(until)))
            removed.setdefault(group, set()).update(numbers)
        for group, facts in event.get("joint", {}).items():
            for fade in fades:
                if fade.group == group and fade.start <= step < fade.end and facts["rate"] is not None:
                    fade.rates.append((step, facts["rate"]))
        for group, numbers in event.get("removed", {}).items():
            fresh = tuple(unit for unit in numbers if unit not in removed.get(group, ()))
            removed.setdefault(group, set()).update(fresh)
            if fresh:
                yield Leaving(group, fresh, step, step, (step,), (1.0,))
    yield from (fade.leaving() for fade in fades)


def _until(step: float, choices: Sequence[float], stages: Sequence[RunStage], end: float) -> float:
    """Of runs before version 0.2: the step after which units chosen at ``step`` are zero.

    Their periods end where the next units are chosen or the next stage begins; the last step of a period is an ordinary
    one, and units are zero before it.
    """
    stage = next((stage.end for stage in stages if stage.start <= step < stage.end), end)
    return max(step, min((later for later in choices if later > step), default=stage) - 2)
