"""The smallest model that is good enough: a sweep that bisects over budgets instead of trying them all.

Budgets are put in the order of the size they ask for. The score is taken to fall with size, so each run halves what is
left: of 9 budgets at most 4 are tried (Optuna needed more than twice as many for as good an answer: BENCHMARKS.md, and
`python -m tests.bench.search`). What decides is the score on the validation split; the test split is left for telling
how good the model found is.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compression import home
from compression.asks import BOPS, BOPS_SAVED, MACS, MACS_SAVED
from compression.budget import Budget
from compression.devices import AUTO
from compression.errors import CompressionError, RunFailed
from compression.reading import short
from compression.runs.folder import DONE, WAY_OUT, RunFolder
from compression.runs.lifecycle import Work, carry_out
from compression.runs.preflight import absolute, check
from compression.runs.reporter import RunReporter
from compression.runs.results import of_sweep, result
from compression.runs.store import Store
from compression.runs.submit import check_devices
from compression.runs.sweep import Bits, combinations, expected_size, specs, stop_with
from compression.tasks import ACCURACY, Metric

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def find_smallest(
    budget: Budget,
    min_score: float,
    sparsity: Sequence[float] = (),
    bits: Sequence[Bits] = (),
    root: str | Path = home.RUNS,
    *,
    more: Mapping[str, Sequence[Any]] | None = None,
    priority: int = 0,
    device: str = AUTO,
    store: Store | None = None,
) -> str:
    """Start a search for the smallest of these budgets with at least ``min_score`` on the validation split.

    Without ``sparsity`` the shares 0.1 to 0.9 are tried; ``more`` is as in a sweep. Returns the id of the sweep; its
    runs are made as they are needed, and its result names the best as ``found``.

    Raises:
        CompressionError: as :func:`compression.runs.sweep`, or a score outside of the metric's range.
    """
    axes = more or {}
    if BOPS_SAVED.option in axes or budget.asks.get(BOPS) is not None:
        raise CompressionError("the smallest model is searched for over sparsity, MACs or bits, not over BOPs")
    by_macs = MACS_SAVED.option in axes or budget.asks.get(MACS) is not None
    candidates = combinations(absolute(budget), sparsity or (() if by_macs else SPARSITIES), bits, axes)
    budgets = sorted(candidates, key=expected_size, reverse=True)
    check_devices(device, store=store)
    identity = check(*budgets)
    Metric.from_result(identity).check(min_score)
    store = store or Store(root)
    spec, planned = specs(budget, budgets, store, identity, device)
    store.add({**spec, "priority": priority, "find": {"min_score": min_score, "planned": planned}})
    return str(spec["id"])


def carry_out_find(
    folder: RunFolder, events: RunReporter, *, work: Work, stopped: Callable[[], bool]
) -> dict[str, Any]:
    """Bisect in this process; runs that an earlier attempt finished are not done again.

    Raises:
        Cancelled, Paused: the sweep was asked to. RunFailed: a run failed, so that nothing can be said.
    """
    search = folder.spec()["find"]
    planned, least = search["planned"], float(search.get("min_score", search.get(f"min_{ACCURACY.name}")))
    metric = Metric.from_result(planned[0].get("subject") or {})
    events.plan((len(planned)).bit_length(), unit="runs")
    tried = itertools.count(1)

    def good_enough(place: int) -> bool:
        events.check()
        child = _child(folder, planned[place])
        score = _score(child, folder, work, stopped)
        enough = metric.goodness(score) >= metric.goodness(least)
        events.step(next(tried), 0.0)
        events.log(f"{child.id}: {metric.show(score, 1)} on validation, {'enough' if enough else 'too little'}")
        return enough

    last = bisect(len(planned), good_enough)
    outcome = of_sweep(folder, DONE, folder.events())
    least_named = {f"min_{name}": value for name, value in metric.named(least).items()}
    return {**outcome, **least_named, "found": None if last is None else planned[last]["id"]}


def target_words(spec: Mapping[str, Any]) -> str:
    """What a search looks for, as a sentence; empty for the spec of a run or of a sweep that is none."""
    if "find" not in spec:
        return ""
    search = spec["find"]
    planned, least = search["planned"], float(search.get("min_score", search.get(f"min_{ACCURACY.name}")))
    metric = Metric.from_result(planned[0].get("subject") or {})
    bound = "at least" if metric.better == "higher" else "at most"
    return (
        f"Looking for the smallest model of {bound} {metric.show(least, 1)} {metric.label} on validation data: at most "
        f"{len(planned).bit_length()} runs of {len(planned)} budgets."
    )


def bisect(count: int, good_enough: Callable[[int], bool]) -> int | None:
    """The last of 0 ... count - 1 that is good enough, taken that none after one that is not is; None: not even 0."""
    good, bad = -1, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if good_enough(middle) else (good, middle)
    return good if good >= 0 else None


def _child(folder: RunFolder, spec: dict[str, Any]) -> RunFolder:
    """A planned run of the search, made where it is missing."""
    if spec.get("id") not in folder.child_ids():
        raise CompressionError(f"run spec {folder.spec_path} plans {short(spec.get('id'))}, no run of it; {WAY_OUT}")
    fresh = {**spec, "created": round(time.time(), 6), "sweep": folder.path.name}
    return folder.child(spec["id"]) or RunFolder.create(folder.path.parent, fresh)


def _score(child: RunFolder, folder: RunFolder, work: Work, stopped: Callable[[], bool]) -> float:
    """The last score on the validation split, after carrying the run out where that is still to be done."""
    state = child.state
    if state != DONE:
        state = carry_out(child, work)
    stop_with(folder, state, stopped)
    outcome = result(child)
    seen = [point["score"] for point in outcome["points"] if point["split"] == "validation"]
    if state != DONE or not seen:
        raise RunFailed(f"the search stops: run {child.id} {state}: {outcome.get('error') or 'it measured nothing'}")
    return float(seen[-1])
