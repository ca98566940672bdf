"""Lesson 8, where bits go: the greedy walk down the layers' convex hulls, its certificate and its gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from compression.pruning.weights import limits, pruned_counts
from compression.quant import spending as allocation
from compression.quant.spending import Problem, Upgrade
from compression.quant.steps import Survivors, best_steps
from lessons import digits
from lessons.lesson import Lesson, Link, Pick, Slider, Values, View
from lessons.numbers import tex
from lessons.spending import figure

SPARSITY, BITS = 0.6, tuple(range(2, 9))
EXERCISE = Problem(
    [np.array([2000, 3000]), np.array([8000, 12000])], [np.array([8.0, 3.0]), np.array([20.0, 8.0])], 15000
)


@dataclass(frozen=True, eq=False)
class Solution:
    """A problem, its ``first`` picks and the ``walk`` from there, the optimum, and λ with the bound it proves."""

    problem: Problem
    first: list[int]
    walk: list[Upgrade]
    optimum: allocation.Choice
    multiplier: float
    bound: float


@lru_cache(maxsize=1)
def errors() -> tuple[list[int], list[np.ndarray]]:
    """Survivors of every layer at 60 % sparsity, and the exact error of each of their bit-widths."""
    tables = digits.tables()
    allowed = limits(tables, SPARSITY, {})
    total = allowed.clamp(round(SPARSITY * tables.size))
    counts = list(map(int, pruned_counts(tables, total, allowed, "empirical", np.ones(len(tables.layers)))))
    survivors = [layer.size - k for layer, k in zip(tables.layers, counts, strict=True)]
    return survivors, [
        np.array(best_steps(Survivors(layer, k), BITS)[1]) for layer, k in zip(tables.layers, counts, strict=True)
    ]


@lru_cache(maxsize=32)
def solved(average: float) -> Solution:
    """The problem at an average of bits, its walk, and its optimum with a lower bound."""
    survivors, table = errors()
    costs = [count * np.array(BITS, dtype=np.int64) for count in survivors]
    problem = Problem(costs, table, math.floor(average * sum(survivors) + 1e-6))
    first, steps = allocation.upgrades(problem)
    walk = [step for step in steps if step.fits]
    return Solution(problem, first, walk, allocation.choose(problem), *allocation.dual(problem))


def fields(values: Values) -> Sequence[Slider]:
    """The budget, and how far the walk has come."""
    explained = "What may be spent: bits a surviving weight, averaged over all layers."
    first = Slider("average", "Average bits", 2.25, 6.0, 0.25, 3.5, help=explained, half=True, format="%.2f")
    if "average" not in values:
        return (first,)
    most = max(1, len(solved(float(values["average"])).walk))
    explained = "Every upgrade gives one layer more bits: the one that saves most error per bit spent."
    return (first, Slider("taken", "Upgrades taken", 0, most, 1, min(5, most), help=explained, half=True))


def show(values: Values) -> View:
    """Error over bits spent along the walk, and the layers' bits at this point of it."""
    average, taken = float(values["average"]), int(values["taken"])
    solution = solved(average)
    problem, walk, best, bound = solution.problem, solution.walk, solution.optimum, solution.bound
    picks = [list(solution.first)]
    for step in walk:
        picks.append([step.end if layer == step.layer else pick for layer, pick in enumerate(picks[-1])])
    trail = [problem.evaluate(pick) for pick in picks]
    now, spent, end = *trail[taken], trail[-1][0]
    names = [layer.name for layer in digits.tables().layers]
    bits, optimum = ([BITS[pick] for pick in chosen] for chosen in (picks[taken], best.picks))
    end_point = (best.error, best.cost)
    info = figure.SpendingInfo(names, bits, optimum, trail, taken, end_point, bound, problem.budget)
    gap = 100 * (end / bound - 1)
    if taken < len(walk):
        step = walk[taken]
        caption = f"Next: **{names[step.layer]}** from {BITS[step.start]} to {BITS[step.end]} bits, which saves "
        caption += f"{step.slope * 1000:.3g} of error per 1,000 bits spent."
    else:
        caption = f"Nothing more fits. The walk ends **{gap:.2f} %** above the bound that λ proves; "
        caption += f"the optimum is {100 * (best.error / bound - 1):.2f} % above it."
    facts = {
        "average": f"{average:g}",
        "budget": f"{problem.budget:,}".replace(",", r"\,"),
        "spent": f"{spent:,}".replace(",", r"\,"),
        "error": tex(now),
        "lambda": tex(solution.multiplier),
        "bound": tex(bound, 4),
        "end": tex(end, 4),
        "best": tex(best.error, 4),
        "gap": f"{gap:.2f}",
        "sparsity": f"{100 * SPARSITY:.0f}",
    }
    for letter, (low, high), (coarse, fine) in zip("ab", EXERCISE.costs, EXERCISE.errors, strict=True):
        facts[f"{letter}_saves"] = f"{coarse - fine:g}"
        facts[f"{letter}_costs"] = f"{high - low:,}"
        facts[f"{letter}_rate"] = f"{(coarse - fine) / (high - low) * 1000:g}"
    return View(figure.spending_figure(info), caption, facts, info.rows)


def answer() -> Pick:
    """The layer whose upgrade the walk takes first."""
    layer = allocation.upgrades(EXERCISE)[1][0].layer
    return Pick({"a": "layer A", "b": "layer B"}, "ab"[layer])


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        Link("compare", "See the bits of {run}", "gallery.resnet8-mnist5k.opq-03", ("opq",)),
        Link("budget", "Spend bits on your model", query={"method": "opq"}),
    ),
)
