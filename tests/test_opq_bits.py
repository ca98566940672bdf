"""Algorithm Q: whole bit-widths under a budget, against brute force and a mixed-integer solver."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from compression.errors import CompressionError
from compression.quant.spending import Problem, choose, dual, greedy, hull


def random_problem(seed: int, layers: int, options: int, convex: bool) -> Problem:
    rng = np.random.default_rng(seed)
    costs, errors = [], []
    for _ in range(layers):
        size = int(10 ** rng.uniform(1, 4))
        costs.append(size * np.arange(2, 2 + options, dtype=np.int64))
        falling = size * rng.uniform(0.1, 2) * 4.0 ** -np.arange(options)
        errors.append(falling if convex else np.sort(rng.uniform(0, size, options))[::-1].copy())
    low, high = sum(int(c[0]) for c in costs), sum(int(c[-1]) for c in costs)
    return Problem(costs, errors, int(rng.integers(low, high + 1)))


def brute_force(problem: Problem) -> float:
    best = np.inf
    for picks in itertools.product(*(range(len(c)) for c in problem.costs)):
        error, cost = problem.evaluate(picks)
        if cost <= problem.budget:
            best = min(best, error)
    return float(best)


@pytest.mark.parametrize("seed", range(40))
def test_the_dynamic_program_is_brute_force(seed: int) -> None:
    problem = random_problem(seed, layers=5, options=4, convex=seed % 2 == 0)
    choice = choose(problem)
    assert choice.exact
    assert choice.cost <= problem.budget
    assert choice.error == pytest.approx(brute_force(problem), rel=1e-12)
    assert (choice.error, choice.cost) == problem.evaluate(choice.picks)


@pytest.mark.parametrize("seed", range(4))
def test_the_dynamic_program_is_a_mixed_integer_program(seed: int) -> None:
    problem = random_problem(100 + seed, layers=14, options=7, convex=True)
    objective, weights = np.concatenate(problem.errors), np.concatenate(problem.costs).astype(float)
    one = np.kron(np.eye(14), np.ones(7))
    scale = objective.sum()
    solved = milp(
        objective / scale,
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint(weights[None], -np.inf, problem.budget)],
        integrality=np.ones(len(objective)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    assert choose(problem).error == pytest.approx(solved.fun * scale, rel=1e-6)


@pytest.mark.parametrize("seed", range(30))
def test_greedy_keeps_the_budget_and_the_dual_is_below_every_answer(seed: int) -> None:
    problem = random_problem(seed, layers=8, options=5, convex=seed % 3 > 0)
    error, cost = problem.evaluate(greedy(problem))
    _, bound = dual(problem)
    assert cost <= problem.budget
    assert bound <= choose(problem).error * (1 + 1e-12) <= error * (1 + 1e-11)
    fast = choose(problem, exact=False)
    assert fast.bound <= choose(problem).error * (1 + 1e-12)


def test_the_hull_leaves_out_what_lies_above_it() -> None:
    costs, errors = np.array([1, 2, 3, 4]), np.array([8.0, 7.0, 2.0, 1.0])
    assert hull(costs, errors) == [0, 2, 3]
    assert hull(np.zeros(4, dtype=np.int64), np.array([3.0, 1.0, 2.0, 1.0])) == [1]


def test_edges_of_the_budget() -> None:
    problem = random_problem(3, layers=4, options=3, convex=True)
    low, high = (sum(int(c[i]) for c in problem.costs) for i in (0, -1))
    assert choose(Problem(problem.costs, problem.errors, low)).picks == (0, 0, 0, 0)
    assert choose(Problem(problem.costs, problem.errors, high)).picks == (2, 2, 2, 2)
    with pytest.raises(CompressionError, match="lowest bit-widths"):
        choose(Problem(problem.costs, problem.errors, low - 1))
    nothing = Problem([np.zeros(3, dtype=np.int64)], [np.zeros(3)], 0)
    assert choose(nothing).error == 0
