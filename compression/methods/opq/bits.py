"""Algorithm Q: a whole bit-width for every layer, the least total error, and a budget that is never exceeded.

Greedy steps along the lower convex hulls give a first answer; the dual function gives a multiplier λ and bounds the
optimum from below; a Pareto dynamic program, pruned by that bound, then finds the optimum itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from compression.errors import CompressionError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_STATES = 200_000  # of the dynamic program, before it gives up proving the optimum


@dataclass(frozen=True)
class Choice:
    """One option per layer. ``bound`` is a proven lower bound of the error; ``exact`` says the optimum was proven."""

    picks: tuple[int, ...]
    error: float
    cost: int
    bound: float
    exact: bool


@dataclass(frozen=True)
class Problem:
    """Options of each layer in ascending cost: integer costs and errors, and the total cost not to exceed."""

    costs: Sequence[Ints]
    errors: Sequence[Floats]
    budget: int

    def evaluate(self, picks: Sequence[int]) -> tuple[float, int]:
        """Total error and cost of a selection."""
        error = sum(float(errors[pick]) for errors, pick in zip(self.errors, picks, strict=True))
        return error, sum(int(costs[pick]) for costs, pick in zip(self.costs, picks, strict=True))


def choose(problem: Problem, exact: bool = True) -> Choice:
    """Pick one option per layer with the least total error within the budget.

    Raises:
        CompressionError: even the cheapest options cost more than the budget.
    """
    cheapest = sum(int(costs.min()) for costs in problem.costs)
    if cheapest > problem.budget:
        raise CompressionError(
            f"the layers' lowest bit-widths already need {cheapest} value bits, above the budget of {problem.budget}; "
            "raise the average bits or lower the layers' bounds"
        )
    picks = greedy(problem)
    multiplier, bound = dual(problem)
    error, cost = problem.evaluate(picks)
    proven = error <= bound * (1 + 1e-12)
    if exact and not proven:
        picks, proven = _dynamic_program(problem, picks, multiplier)
        error, cost = problem.evaluate(picks)
        bound = error if proven else bound
    return Choice(tuple(picks), error, cost, min(bound, error), proven)


def hull(costs: Ints, errors: Floats) -> list[int]:
    """The options on the lower convex hull of (cost, error), from the cheapest on, as long as the error falls."""
    kept: list[int] = []
    for i in np.lexsort((errors, costs)):
        if kept and (costs[i] == costs[kept[-1]] or errors[i] >= errors[kept[-1]]):
            continue
        while len(kept) > 1 and _slope(costs, errors, kept[-2], kept[-1]) <= _slope(costs, errors, kept[-1], i):
            kept.pop()
        kept.append(int(i))
    return kept


def _slope(costs: Ints, errors: Floats, i: int, j: int) -> float:
    """Error saved per unit of cost on the way from option i to option j."""
    return float((errors[i] - errors[j]) / (costs[j] - costs[i]))


@dataclass(frozen=True)
class Upgrade:
    """A step down one layer's hull: from option ``start`` to ``end``, for ``extra`` cost, saving error at ``slope``.

    ``fits``: whether the greedy walk takes it within the budget.
    """

    layer: int
    start: int
    end: int
    extra: int
    slope: float
    fits: bool


def upgrades(problem: Problem) -> tuple[list[int], list[Upgrade]]:
    """The cheapest options, and all steps down the hulls in the order of the greedy walk: best saving a bit first."""
    hulls = [hull(c, e) for c, e in zip(problem.costs, problem.errors, strict=True)]
    first = [path[0] for path in hulls]
    segments = sorted(
        (-_slope(problem.costs[layer], problem.errors[layer], start, end), layer, start, end)
        for layer, path in enumerate(hulls)
        for start, end in pairwise(path)
    )
    picks, left, found = list(first), problem.budget - problem.evaluate(first)[1], []
    for slope, layer, start, end in segments:
        extra = int(problem.costs[layer][end] - problem.costs[layer][start])
        fits = picks[layer] == start and extra <= left
        if fits:
            picks[layer] = end
            left -= extra
        found.append(Upgrade(layer, start, end, extra, -slope, fits))
    return first, found


def greedy(problem: Problem) -> list[int]:
    """Walk down the hulls, best saving first, skipping what no longer fits; then mend by upgrades and exchanges."""
    picks, steps = upgrades(problem)
    for step in steps:
        if step.fits:
            picks[step.layer] = step.end
    return _mend(problem, picks, problem.budget - problem.evaluate(picks)[1])


def _mend(problem: Problem, picks: list[int], left: int) -> list[int]:
    """Apply the best single change, or pair of one change in each of two layers, as long as any lowers the error."""
    for _ in range(4 * len(picks)):
        layer, option, extra, gain = _changes(problem, picks)
        fits = (extra[:, None] + extra[None, :] <= left) & (layer[:, None] != layer[None, :])
        pairs = np.where(fits, gain[:, None] + gain[None, :], 0.0)
        if not pairs.size or pairs.max() <= 1e-12 * problem.evaluate(picks)[0]:
            return picks
        for change in divmod(int(pairs.argmax()), len(layer)):
            if layer[change] >= 0:
                picks[layer[change]] = int(option[change])
                left -= int(extra[change])
    return picks


def _changes(problem: Problem, picks: list[int]) -> tuple[Ints, Ints, Ints, Floats]:
    """Every way to change one layer: (layer, new option, extra cost, error saved); the first one changes nothing."""
    rows: list[tuple[int, int, int, float]] = [(-1, 0, 0, 0.0)]
    for i, (costs, errors) in enumerate(zip(problem.costs, problem.errors, strict=True)):
        now = picks[i]
        for j in (now - 1, now + 1):
            if 0 <= j < len(costs):
                rows.append((i, j, int(costs[j] - costs[now]), float(errors[now] - errors[j])))
    layer, option, extra, gain = zip(*rows, strict=True)
    return np.array(layer), np.array(option), np.array(extra, dtype=np.int64), np.array(gain)


def dual(problem: Problem) -> tuple[float, float]:
    """The multiplier λ that maximises the dual g(λ) = Σ min(error + λ cost) - λ budget, and g there: a lower bound."""
    width = max(len(costs) for costs in problem.costs)
    costs = np.array([np.pad(c, (0, width - len(c)), mode="edge") for c in problem.costs], dtype=np.float64)
    errors = np.array([np.pad(e, (0, width - len(e)), mode="edge") for e in problem.errors])

    def value(multiplier: float) -> tuple[float, float]:
        reduced = errors + multiplier * costs
        best = reduced.argmin(axis=1)
        rows = np.arange(len(best))
        return float(reduced[rows, best].sum()) - multiplier * problem.budget, float(costs[rows, best].sum())

    low, high = 0.0, 1.0
    if value(0.0)[1] <= problem.budget:
        return 0.0, value(0.0)[0]
    while value(high)[1] > problem.budget and high < 1e300:
        low, high = high, high * 16
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if value(middle)[1] > problem.budget else (low, middle)
    return max(((m, value(m)[0]) for m in (low, high)), key=lambda pair: pair[1])


def _dynamic_program(problem: Problem, incumbent: list[int], multiplier: float) -> tuple[list[int], bool]:
    """Exact: keep only states that no other beats in cost and error, that can be finished, and that can still win."""
    order = sorted(range(len(problem.costs)), key=lambda i: -int(problem.costs[i].max() - problem.costs[i].min()))
    best_error = problem.evaluate(incumbent)[0]
    reduced = [float((problem.errors[i] + multiplier * problem.costs[i]).min()) for i in order]
    cheapest = [int(problem.costs[i].min()) for i in order]
    cost, error = np.zeros(1, dtype=np.int64), np.zeros(1)
    history: list[tuple[Ints, Ints]] = []
    for depth, layer in enumerate(order):
        costs, errors = problem.costs[layer], problem.errors[layer]
        parent, option = (x.ravel() for x in np.indices((len(cost), len(costs))))
        cost, error = (cost[:, None] + costs[None, :]).ravel(), (error[:, None] + errors[None, :]).ravel()
        bound = error + multiplier * (cost - problem.budget) + sum(reduced[depth + 1 :])
        able = (cost + sum(cheapest[depth + 1 :]) <= problem.budget) & (bound <= best_error * (1 + 1e-12))
        keep = np.flatnonzero(able)
        keep = keep[np.lexsort((error[keep], cost[keep]))]
        keep = keep[_improves(error[keep])]
        if not len(keep):
            return incumbent, True  # nothing better than the incumbent exists
        if len(keep) > MOST_STATES:
            return incumbent, False
        cost, error = cost[keep], error[keep]
        history.append((parent[keep], option[keep]))
    return _backtrack(order, history, int(error.argmin()), incumbent, problem), True


def _improves(errors: Floats) -> NDArray[np.bool_]:
    """Which entries are strictly below everything before them."""
    before = np.concatenate(([np.inf], np.minimum.accumulate(errors)[:-1]))
    return np.asarray(errors < before)


def _backtrack(
    order: list[int], history: list[tuple[Ints, Ints]], state: int, incumbent: list[int], problem: Problem
) -> list[int]:
    picks = list(incumbent)
    for layer, (parent, option) in zip(reversed(order), reversed(history), strict=True):
        picks[layer], state = int(option[state]), int(parent[state])
    return picks if problem.evaluate(picks)[0] <= problem.evaluate(incumbent)[0] else list(incumbent)
