"""What the accuracy–size front shows: the dense model, the open run's points, every finished run for context."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app import theme, words
from compression.front import dominated, front

PointDict = Mapping[str, Any]
MOST_POINTS = 2000


@dataclass(frozen=True)
class FrontRun:
    """What the front needs of one run: its points so far, and baseline and final once they are known.

    ``unit`` is what its steps are: ``steps`` of training, or the ``layers`` a method goes through.
    """

    run: str
    label: str
    method: str
    points: tuple[PointDict, ...] = ()
    baseline: PointDict | None = None
    final: PointDict | None = None
    unit: str = "steps"


@dataclass(frozen=True)
class Spot:
    """One marker: where it is, whose it is, and the sentence that explains it."""

    run: str
    method: str
    bytes: float
    accuracy: float
    split: str
    sentence: str
    dominated: bool = False
    estimated: bool = False


@dataclass(frozen=True)
class FrontInfo:
    """``trail``: the open run in the order of its steps; ``finals``: a spot per finished run; ``dense``: the stars.

    ``latest`` is where the open run stands: its final spot once there is one.
    """

    trail: tuple[Spot, ...]
    finals: tuple[Spot, ...]
    dense: tuple[Spot, ...]
    method: str
    latest: Spot | None = None

    @property
    def ended(self) -> Spot | None:
        """Where the open run ended: its model on test data, as a file; ``None`` while it goes."""
        return self.latest if self.latest in self.finals else None

    @property
    def own_front(self) -> tuple[Spot, ...]:
        """The open run's points that none of its others beats, from small to large; none once it has ended.

        They are measured on validation data and their sizes estimated: beside the end they would look like results.
        """
        return () if self.ended else unbeaten(self.trail)

    @property
    def same_model(self) -> tuple[Spot, ...]:
        """The open run's last point on the way and its end: one model, measured on other data and as a file."""
        return (self.trail[-1], self.ended) if self.ended and self.trail else ()

    @property
    def floor(self) -> float:
        """The lowest accuracy drawn at first: below it lie only moments a run passed through, not results."""
        best = max((spot.accuracy for spot in self.trail), default=None)
        results = [spot.accuracy for spot in (*self.finals, *self.dense)] + ([] if best is None else [best])
        low, high = min(results, default=0.0), max(results, default=1.0)
        return max(0.0, low - 0.25 * (high - low) - 0.05)

    @property
    def hidden(self) -> int:
        """How many points of the open run lie below what is drawn at first."""
        return sum(spot.accuracy < self.floor for spot in self.trail)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table."""
        kinds = (("dense", self.dense), ("final", self.finals), ("on the way", self.trail))
        return [
            {
                "what": kind,
                "run": spot.run,
                "method": theme.style(spot.method).label,
                "bytes": round(spot.bytes),
                "accuracy %": round(100 * spot.accuracy, 2),
                "split": spot.split,
                "size": "estimated" if spot.estimated else "of the file",
                "on the front": "" if kind == "on the way" else "no" if spot.dominated else "yes",
            }
            for kind, spots in kinds
            for spot in spots
        ]

    @property
    def sentence(self) -> str:
        """What the chart shows, for people who do not see it."""
        said = [spot.sentence for spot in (*self.dense[:1], *([self.latest] if self.latest else self.finals[-1:]))]
        return "Accuracy against size. " + " ".join(said)


def front_info(runs: Sequence[FrontRun], opened: str | None = None) -> FrontInfo:
    """Collect the spots of all runs; ``opened`` is the run whose points are shown one by one."""
    main = next((run for run in runs if run.run == opened), None)
    finals = [_spot(run, run.final, "ends at") for run in runs if _drawable(run.final) and run.final]
    marked = _mark_dominated(finals)
    trail = [_spot(main, p, "was at") for p in _thin(main.points) if _drawable(p)] if main else []
    latest = next((spot for spot in marked if spot.run == opened), trail[-1] if trail else None)
    return FrontInfo(tuple(trail), tuple(marked), tuple(_stars(runs, main)), main.method if main else "dense", latest)


def _drawable(point: PointDict | None) -> bool:
    if not point:
        return False
    numbers = (point.get("bytes"), point.get("accuracy"))
    return all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers) and point["bytes"] > 0


def _spot(run: FrontRun, point: PointDict | None, verb: str) -> Spot:
    assert point is not None
    dense = (
        f", {words.ratio(run.baseline['bytes'] / point['bytes'])} smaller than the dense model" if run.baseline else ""
    )
    estimated = point.get("bytes_kind") == "estimated"
    when = f" after {words.plural(point['step'], run.unit.removesuffix('s'))}" if verb == "was at" else ""
    sentence = (
        f"{theme.style(run.method).label} {run.label} {verb} {words.size(point['bytes'])}{' (estimated)' * estimated} "
        f"with {words.share(point['accuracy'])} {point.get('split', '')} accuracy{when}{dense}."
    )
    split = str(point.get("split", ""))
    return Spot(run.run, run.method, point["bytes"], point["accuracy"], split, sentence, estimated=estimated)


def _stars(runs: Sequence[FrontRun], main: FrontRun | None) -> list[Spot]:
    """The dense model once per distinct place: the open run's baseline first."""
    ordered = [main, *runs] if main else list(runs)
    stars: dict[tuple[float, float], Spot] = {}
    for run in ordered:
        point = run.baseline
        if point is not None and _drawable(point):
            sentence = (
                f"The dense model takes {words.size(point['bytes'])} with {words.share(point['accuracy'])} "
                f"{point.get('split', '')} accuracy."
            )
            key = (point["bytes"], round(point["accuracy"], 4))
            stars.setdefault(key, Spot(run.run, "dense", key[0], point["accuracy"], point.get("split", ""), sentence))
    return list(stars.values())


def _thin(points: Sequence[PointDict]) -> list[PointDict]:
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[:-1:stride], *points[-1:]]


def unbeaten(spots: Sequence[Spot]) -> tuple[Spot, ...]:
    """The spots with no smaller one as accurate, from small to large."""
    return tuple(spots[i] for i in front([(spot.bytes, spot.accuracy) for spot in spots]))


def _mark_dominated(spots: list[Spot]) -> list[Spot]:
    beaten = dominated([(spot.bytes, spot.accuracy) for spot in spots])
    return [replace(spot, dominated=faint) for spot, faint in zip(spots, beaten, strict=True)]
