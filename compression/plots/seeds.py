"""Runs that differ in their seed alone, folded into one candidate at their mean, with its spread."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compression.plots import words
from compression.plots.axes import Axis, PointDict
from compression.tasks import Metric

if TYPE_CHECKING:
    from compression.plots.candidates import Candidate


def recipe(budget: Mapping[str, Any]) -> str:
    """The same for budgets that differ in their seed alone."""
    return json.dumps({**budget, "seed": None}, sort_keys=True)


def identity(budget: Mapping[str, Any]) -> dict[str, Any]:
    """``recipe`` and ``seed`` of a :class:`~compression.plots.candidates.Candidate` with this budget."""
    return {"recipe": recipe(budget), "seed": budget.get("seed")}


def fold(candidates: Sequence[Candidate], field: str) -> list[Candidate]:
    """One candidate for the finished runs of each recipe that have this cost; others stay as they are, such as a second
    run of the same seed.

    Its point is the mean of the runs' points (of every number that all of them have), and it has the name of the
    first run.
    """
    folded: list[Candidate] = []
    for group in _groups(candidates, field):
        first = group[0]
        if len(group) == 1:
            folded.append(first)
            continue
        label = f"{first.label}, mean of {len(group)} seeds"
        shipped = all(each.shipped for each in group)
        point = mean([each.point for each in group])
        folded.append(replace(first, label=label, point=point, shipped=shipped, members=tuple(group)))
    return folded


def repeated(candidates: Sequence[Candidate]) -> bool:
    """Is there more than one seed of anything?"""
    return any(len(group) > 1 for group in _groups(candidates, "score"))


def _groups(candidates: Sequence[Candidate], field: str) -> list[list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for each in candidates:
        same = each.recipe and not each.live and each.point.get(field) is not None
        key = f"of {each.recipe}" if same else each.run
        repeated = each.seed is not None and each.seed in [other.seed for other in groups.get(key, ())]
        groups.setdefault(each.run if repeated else key, []).append(each)
    return list(groups.values())


def mean(points: Sequence[PointDict]) -> dict[str, Any]:
    """The mean of every number that all points have; everything else as the first point has it."""
    result = dict(points[0])
    for name in points[0]:
        values = [point.get(name) for point in points]
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            result[name] = statistics.fmean(values)  # type: ignore[arg-type]
        elif any(value is None for value in values):
            result.pop(name)
    return result


def spread(members: Sequence[Candidate], field: str) -> float:
    """The sample standard deviation of a number of the runs' points; 0 of fewer than two."""
    return statistics.stdev(each.point[field] for each in members) if len(members) > 1 else 0.0


def sentence(members: Sequence[Candidate], axis: Axis, metric: Metric) -> str:
    """``3 seeds: 96.1 % to 97.0 %, 4.2 kB to 4.4 kB.``: from the least to the most of each, as a tooltip says it."""
    if len(members) < 2:
        return ""
    scores, costs = ([_number(each.point, field) for each in members] for field in ("score", axis.field))
    score = f"{metric.show(min(scores))} to {metric.show(max(scores))}"
    return f" {words.plural(len(members), 'seed')}: {score}, {axis.show(min(costs))} to {axis.show(max(costs))}."


def _number(point: Mapping[str, Any], field: str) -> float:
    return float(point[field])
