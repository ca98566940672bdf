"""OPQ's bit allocation (arXiv 2205.11141, section 3.3): a whole bit-width a layer, least total error, in budget.

Minimise Σ_i e_i(b_i) subject to Σ_i c_i(b_i) ≤ C (eq. O12). Greedy upgrades along the lower convex hulls give a
feasible answer (eq. O13); the Lagrange dual gives the multiplier λ and a lower bound of the optimum (eq. O14); a
Pareto dynamic program, pruned by that bound, gives the optimum (eq. O15). Equation numbers are those of
``docs/derivations/opq.md``.
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
MOST_STATES = 200_000  # of the dynamic program; with more, the optimum is not proven


@dataclass(frozen=True)
class Choice:
    """One option per layer. ``bound`` is a lower bound of the least error; ``exact``: the optimum is proven."""

    picks: tuple[int, ...]
    error: float
    cost: int
    bound: float
    exact: bool


@dataclass(frozen=True)
class Problem:
    """Options of each layer in ascending cost: costs c_i (integers), errors e_i, and the budget C of the total cost."""

    costs: Sequence[Ints]
    errors: Sequence[Floats]
    budget: int

    def evaluate(self, picks: Sequence[int]) -> tuple[float, int]:
        """Return the total error and the total cost of one option per layer."""
        error = sum(float(errors[pick]) for errors, pick in zip(self.errors, picks, strict=True))
        return error, sum(int(costs[pick]) for costs, pick in zip(self.costs, picks, strict=True))


def choose(problem: Problem, exact: bool = True) -> Choice:
    """Choose one option per layer with the least total error within the budget (eq. O12).

    Raises:
        CompressionError: the cheapest options cost more than the budget.
    """
    cheapest = sum(int(costs.min()) for costs in problem.costs)
    if cheapest > problem.budget:
        raise CompressionError(
            f"the layers' lowest bit-widths already need {cheapest} value bits, above the budget of {problem.budget}; "
            "raise the average bits or lower the layers' bounds"
        )
    # A feasible answer (eq. O13), λ and the lower bound g(λ) (eq. O14).
    picks = greedy(problem)
    multiplier, bound = dual(problem)
    error, cost = problem.evaluate(picks)
    proven = error <= bound * (1 + 1e-12)
    # The answer equals the lower bound: it is the optimum. Otherwise the dynamic program finds it (eq. O15).
    if exact and not proven:
        picks, proven = _dynamic_program(problem, picks, multiplier)
        error, cost = problem.evaluate(picks)
        bound = error if proven else bound
    return Choice(tuple(picks), error, cost, min(bound, error), proven)


def hull(costs: Ints, errors: Floats) -> list[int]:
    """Return the options on the lower convex hull of (cost, error), from the cheapest on, while the error falls."""
    corners: list[int] = []
    for i in np.lexsort((errors, costs)):
        # Not cheaper and not better than the last corner: never chosen.
        if corners and (costs[i] == costs[corners[-1]] or errors[i] >= errors[corners[-1]]):
            continue
        # The last corner lies above the line from the one before it to option i: remove it.
        while len(corners) > 1 and _slope(costs, errors, *corners[-2:]) <= _slope(costs, errors, corners[-1], i):
            corners.pop()
        corners.append(int(i))
    return corners


def _slope(costs: Ints, errors: Floats, i: int, j: int) -> float:
    """Error saved per unit of cost from option i to option j: (e_i - e_j) / (c_j - c_i)."""
    return float((errors[i] - errors[j]) / (costs[j] - costs[i]))


@dataclass(frozen=True)
class Upgrade:
    """A segment of a layer's hull, from option ``start`` to ``end``: ``extra`` cost, saving ``slope`` error a unit.

    ``fits``: the greedy walk takes it within the budget.
    """

    layer: int
    start: int
    end: int
    extra: int
    slope: float
    fits: bool


def upgrades(problem: Problem) -> tuple[list[int], list[Upgrade]]:
    """Return the cheapest options, and all hull segments in the order of the greedy walk: largest slope first."""
    hulls = [hull(c, e) for c, e in zip(problem.costs, problem.errors, strict=True)]
    first = [path[0] for path in hulls]
    segments = sorted(
        (-_slope(problem.costs[layer], problem.errors[layer], start, end), layer, start, end)
        for layer, path in enumerate(hulls)
        for start, end in pairwise(path)
    )
    picks, remaining, steps = list(first), problem.budget - problem.evaluate(first)[1], []
    for slope, layer, start, end in segments:
        extra = int(problem.costs[layer][end] - problem.costs[layer][start])
        # A segment is taken if the one before it on its hull was, and the budget covers its cost.
        fits = picks[layer] == start and extra <= remaining
        if fits:
            picks[layer] = end
            remaining -= extra
        steps.append(Upgrade(layer, start, end, extra, -slope, fits))
    return first, steps


def greedy(problem: Problem) -> list[int]:
    """Take the hull segments in the order of their slope where they fit (eq. O13), then improve by exchanges."""
    picks, steps = upgrades(problem)
    for step in steps:
        if step.fits:
            picks[step.layer] = step.end
    return _improve(problem, picks, problem.budget - problem.evaluate(picks)[1])


def _improve(problem: Problem, picks: list[int], remaining: int) -> list[int]:
    """Apply the best change of one layer, or of two layers at once, while one lowers the error and fits the budget.

    ``remaining`` is the budget minus the cost of ``picks``.
    """
    for _ in range(4 * len(picks)):
        # Every change of one layer by one option; row 0 changes nothing, so that pairs with it are single changes.
        layer, option, extra, gain = _changes(problem, picks)
        # Pairs of changes in different layers whose added cost the budget covers: one layer down, another up.
        fits = (extra[:, None] + extra[None, :] <= remaining) & (layer[:, None] != layer[None, :])
        pairs = np.where(fits, gain[:, None] + gain[None, :], 0.0)
        # No pair lowers the error: a local optimum.
        if not pairs.size or pairs.max() <= 1e-12 * problem.evaluate(picks)[0]:
            return picks
        # Apply the pair with the largest gain.
        for change in divmod(int(pairs.argmax()), len(layer)):
            if layer[change] >= 0:
                picks[layer[change]] = int(option[change])
                remaining -= int(extra[change])
    return picks


def _changes(problem: Problem, picks: list[int]) -> tuple[Ints, Ints, Ints, Floats]:
    """Return (layer, new option, extra cost, error saved) of every change of one layer; row 0 changes nothing."""
    rows: list[tuple[int, int, int, float]] = [(-1, 0, 0, 0.0)]
    for i, (costs, errors) in enumerate(zip(problem.costs, problem.errors, strict=True)):
        present = picks[i]
        for j in (present - 1, present + 1):
            if 0 <= j < len(costs):
                rows.append((i, j, int(costs[j] - costs[present]), float(errors[present] - errors[j])))
    layer, option, extra, gain = zip(*rows, strict=True)
    return np.array(layer), np.array(option), np.array(extra, dtype=np.int64), np.array(gain)


def dual(problem: Problem) -> tuple[float, float]:
    """Return the λ that maximises the dual g(λ) = Σ_i min_b(e_i + λ c_i) - λ C, and g(λ) ≤ the optimum (eq. O14)."""
    width = max(len(costs) for costs in problem.costs)
    costs = np.array([np.pad(c, (0, width - len(c)), mode="edge") for c in problem.costs], dtype=np.float64)
    errors = np.array([np.pad(e, (0, width - len(e)), mode="edge") for e in problem.errors])

    def value(multiplier: float) -> tuple[float, float]:
        reduced = errors + multiplier * costs
        best = reduced.argmin(axis=1)
        rows = np.arange(len(best))
        return float(reduced[rows, best].sum()) - multiplier * problem.budget, float(costs[rows, best].sum())

    # λ = 0 fits the budget: every layer has its best option.
    low, high = 0.0, 1.0
    if value(0.0)[1] <= problem.budget:
        return 0.0, value(0.0)[0]
    # The cost of the minimiser falls with λ: bracket the budget, then bisect.
    while value(high)[1] > problem.budget and high < 1e300:
        low, high = high, high * 16
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if value(middle)[1] > problem.budget else (low, middle)
    return max(((m, value(m)[0]) for m in (low, high)), key=lambda pair: pair[1])


def _dynamic_program(problem: Problem, incumbent: list[int], multiplier: float) -> tuple[list[int], bool]:
    """Return the optimum of eq. O12 and True; or the incumbent and False, where the states exceed MOST_STATES.

    A state is one option for each of the first layers. Kept are the states that no other one beats in cost and error,
    that the cheapest options of the other layers can complete within the budget, and whose lower bound (eq. O15) does
    not exceed the incumbent's error.
    """
    # Layers with the widest range of costs first: bounds become tight early.
    order = sorted(range(len(problem.costs)), key=lambda i: -int(problem.costs[i].max() - problem.costs[i].min()))
    best_error = problem.evaluate(incumbent)[0]
    # Of each layer: min_b(e + λ c), its share of the dual (eq. O14), and its least cost.
    reduced = [float((problem.errors[i] + multiplier * problem.costs[i]).min()) for i in order]
    cheapest = [int(problem.costs[i].min()) for i in order]
    cost, error = np.zeros(1, dtype=np.int64), np.zeros(1)
    history: list[tuple[Ints, Ints]] = []
    for depth, layer in enumerate(order):
        costs, errors = problem.costs[layer], problem.errors[layer]
        # Every state with every option of this layer.
        parent, option = (x.ravel() for x in np.indices((len(cost), len(costs))))
        cost, error = (cost[:, None] + costs[None, :]).ravel(), (error[:, None] + errors[None, :]).ravel()
        # Lower bound of a completion: e + λ (c - C) + Σ over the other layers of min(e + λ c) (eq. O15).
        bound = error + multiplier * (cost - problem.budget) + sum(reduced[depth + 1 :])
        feasible = (cost + sum(cheapest[depth + 1 :]) <= problem.budget) & (bound <= best_error * (1 + 1e-12))
        # Pareto front: in ascending cost, only states whose error is below that of every cheaper one.
        keep = np.flatnonzero(feasible)
        keep = keep[np.lexsort((error[keep], cost[keep]))]
        keep = keep[_improves(error[keep])]
        if not len(keep):
            return incumbent, True  # no completion is better than the incumbent
        if len(keep) > MOST_STATES:
            return incumbent, False
        cost, error = cost[keep], error[keep]
        history.append((parent[keep], option[keep]))
    # The last state with the least error; its options by the stored parents.
    return _backtrack(order, history, int(error.argmin()), incumbent, problem), True


def _improves(errors: Floats) -> NDArray[np.bool_]:
    """Return which entries are strictly below all entries before them."""
    before = np.concatenate(([np.inf], np.minimum.accumulate(errors)[:-1]))
    return np.asarray(errors < before)


def _backtrack(
    order: list[int], history: list[tuple[Ints, Ints]], state: int, incumbent: list[int], problem: Problem
) -> list[int]:
    picks = list(incumbent)
    for layer, (parent, option) in zip(reversed(order), reversed(history), strict=True):
        picks[layer], state = int(option[state]), int(parent[state])
    return picks if problem.evaluate(picks)[0] <= problem.evaluate(incumbent)[0] else list(incumbent)
