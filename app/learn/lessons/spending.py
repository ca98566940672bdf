"""Lesson 8, where bits go: the greedy walk down the layers' convex hulls, its certificate and its gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from app.figures.learn import spending as figures
from app.learn.lessons import shipped
from app.learn.lessons.answers import Pick
from app.learn.lessons.fields import Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import tex
from compression.methods.opq.bits import Choice, Problem, Upgrade, choose, dual, upgrades
from compression.pruning.weights import limits, pruned_counts
from compression.quant.steps import Survivors, best_steps

SPARSITY, BITS = 0.6, tuple(range(2, 9))
ASKED = Problem([np.array([2000, 3000]), np.array([8000, 12000])], [np.array([8.0, 3.0]), np.array([20.0, 8.0])], 15000)


@lru_cache(maxsize=1)
def tables() -> tuple[tuple[int, ...], tuple[tuple[float, ...], ...]]:
    """Survivors of every layer at 60 % sparsity, and the exact error of each of their bit-widths."""
    prepared = shipped.tables()
    allowed = limits(prepared, SPARSITY, {})
    total = allowed.clamp(round(SPARSITY * prepared.size))
    counts = pruned_counts(prepared, total, allowed, "empirical", np.ones(len(prepared.layers)))
    errors = [best_steps(Survivors(layer, int(k)), BITS)[1] for layer, k in zip(prepared.layers, counts, strict=True)]
    kept = tuple(layer.size - int(k) for layer, k in zip(prepared.layers, counts, strict=True))
    return kept, tuple(tuple(float(e) for e in row) for row in errors)


@lru_cache(maxsize=32)
def solved(average: float) -> tuple[Problem, list[int], list[Upgrade], Choice, float, float]:
    """The problem at an average of bits, its walk, its optimum, and λ with the lower bound it proves."""
    kept, errors = tables()
    costs = [m * np.array(BITS, dtype=np.int64) for m in kept]
    problem = Problem(costs, [np.array(row) for row in errors], math.floor(average * sum(kept) + 1e-6))
    first, steps = upgrades(problem)
    multiplier, bound = dual(problem)
    return problem, first, [step for step in steps if step.fits], choose(problem), multiplier, bound


def fields(values: Values) -> Sequence[Field]:
    """The budget, and how far the walk has come."""
    explained = "What may be spent: bits a surviving weight, averaged over all layers."
    first = Slider("average", "Average bits", 2.25, 6.0, 0.25, 3.5, form="%.2f", help=explained, half=True)
    if "average" not in values:
        return (first,)
    most = max(1, len(solved(float(values["average"]))[2]))
    explained = "Every upgrade gives one layer more bits: the one that saves most error per bit spent."
    return (first, Slider("taken", "Upgrades taken", 0, most, 1, min(5, most), help=explained, half=True))


def show(values: Values) -> Shown:
    """Error over bits spent along the walk, and the layers' bits at this point of it."""
    average, taken = float(values["average"]), int(values["taken"])
    problem, first, walk, best, multiplier, bound = solved(average)
    picks = list(first)
    trail = [problem.evaluate(picks)]
    reached = list(first)
    for number, step in enumerate(walk, 1):
        picks[step.layer] = step.end
        trail.append(problem.evaluate(picks))
        reached = list(picks) if number == taken else reached
    names = [layer.name for layer in shipped.tables().layers]
    now = problem.evaluate(reached)
    info = figures.spending_info(
        names, [BITS[p] for p in reached], [BITS[p] for p in best.picks], trail, taken, best, bound, problem.budget
    )
    end = trail[-1]
    gap = end[0] / bound - 1
    if taken < len(walk):
        step = walk[taken]
        said = f"Next: **{names[step.layer]}** from {BITS[step.start]} to {BITS[step.end]} bits, which saves "
        said += f"{step.slope * 1000:.3g} of error per 1,000 bits spent."
    else:
        said = f"Nothing more fits. The walk ends **{100 * gap:.2f} %** above the bound that λ proves; "
        said += f"the optimum is {100 * (best.error / bound - 1):.2f} % above it."
    facts = {
        "average": f"{average:g}",
        "budget": f"{problem.budget:,}".replace(",", r"\,"),
        "spent": f"{now[1]:,}".replace(",", r"\,"),
        "error": tex(now[0]),
        "lambda": tex(multiplier),
        "bound": tex(bound, 4),
        "end": tex(end[0], 4),
        "best": tex(best.error, 4),
        "gap": f"{100 * gap:.2f}",
        "sparsity": f"{100 * SPARSITY:.0f}",
    }
    for letter, costs, errors in zip("ab", ASKED.costs, ASKED.errors, strict=True):
        facts[f"{letter}_saves"] = f"{errors[0] - errors[1]:g}"
        facts[f"{letter}_costs"] = f"{costs[1] - costs[0]:,}"
        facts[f"{letter}_rate"] = f"{(errors[0] - errors[1]) / (costs[1] - costs[0]) * 1000:g}"
    return Shown(figures.spending_figure(info), said, facts, info.rows)


def answer() -> Pick:
    """The layer whose upgrade the walk takes first."""
    layer = upgrades(ASKED)[1][0].layer
    return Pick({"a": "layer A", "b": "layer B"}, "ab"[layer])


LESSON = Lesson(
    fields,
    show,
    answer,
    (
        See("compare", "See the bits of {run}", "gallery.resnet8-mnist5k.opq-03", ("opq",)),
        See("budget", "Spend bits on your model", query={"method": "opq"}),
    ),
)
