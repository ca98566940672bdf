"""The study of the score without any training: a method's allocation over a grid of budgets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression import methods
from compression.asks import ACTIVATION_BITS
from compression.budget import Budget
from compression.errors import CompressionError
from compression.jobs import studies
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter

KIND = "curve"
SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
BITS = (2.0, 3.0, 4.0, 6.0, 8.0)
IMAGES = 1000  # of the validation split, for every budget
STATISTICS = 16  # batches on which batch norms are refitted: enough for an average, and a sixth of what a run takes


def grid() -> list[tuple[float, float]]:
    """Every (sparsity, average bits) that is measured, in the order of measuring."""
    return [(sparsity, bits) for bits in BITS for sparsity in SPARSITIES]


def request(budget: Budget) -> dict[str, Any]:
    """What of a budget counts (its method where that allocates, the bounds on weights, the options), and the grid."""
    method = methods.get(budget.method)
    plain = budget.to_dict() if method.allocates else {"layers": {}, "options": {}}
    layers = {
        layer: bounds
        for layer, entry in plain["layers"].items()
        if (bounds := {name: value for name, value in entry.items() if name != ACTIVATION_BITS})
    }
    how = {"grid": [list(pair) for pair in grid()], "images": IMAGES, "statistics": STATISTICS}
    return {"layers": layers, "options": plain["options"], **how, **_named(method)}


def allocating(name: str) -> str:
    """The name of a method that allocates from the weights: the one named, or the first that does."""
    return name if methods.get(name).allocates else next(n for n, m in methods.all_methods().items() if m.allocates)


def check_allocates(name: str) -> None:
    """Refuse a method that was named for an allocation and has none.

    Raises:
        CompressionError: naming it, and those that allocate.
    """
    if not methods.get(name).allocates:
        able = ", ".join(other for other, method in methods.all_methods().items() if method.allocates)
        raise CompressionError(
            f"--method {name}: {methods.get(name).info.label} does not allocate before a run; these do: {able}"
        )


def _named(method: methods.Method) -> dict[str, Any]:
    """The method where it is not the first that allocates, which studies made before there was a choice do not name."""
    name = allocating(method.info.name)
    return {} if name == allocating("") else {"method": name}


def key(budget: Budget) -> str:
    """What the curve depends on, as a digest: see :func:`compression.jobs.studies.key`.

    Raises:
        CompressionError: there are no trained weights.
    """
    return studies.key(KIND, budget, **request(budget))


def measure(budget: Budget, root: str | Path) -> str:
    """Start (or queue) the curve of the model, weights, data and bounds of ``budget``; returns its id.

    Raises:
        CompressionError: what in the budget cannot be, as for a run.
    """
    return studies.begin(KIND, budget, root, **request(budget))


def carry_out(
    folder: RunFolder,
    events: RunReporter,
    *,
    layers: Mapping[str, Any],
    options: Mapping[str, Any],
    grid: list[tuple[float, float]],
    images: int,
    statistics: int,
    method: str = "",
) -> dict[str, Any]:
    """Measure every budget of the grid on validation images; the result's ``rows`` are those of ``untrained``.

    ``dense`` is the score of the dense model on the same images.

    Raises:
        Cancelled: the job was asked to stop.
    """
    from compression.explain.untrained import dense_score, measure_untrained, row_of

    budget = folder.budget().replace(method=method or allocating(""), layers=layers, options=options)
    subject, graph = studies.opened(folder, budget)
    events.plan(len(grid), unit="budgets")
    dense, metric = dense_score(subject.model, subject.task, "validation", images), subject.task.metric
    rows = []
    measured = measure_untrained(
        subject.model, graph, subject.task, budget, grid, limit=images, statistics=statistics, check=events.check
    )
    for number, row in enumerate(measured, start=1):
        rows.append(row_of(row, metric))
        events.step(number, 0.0, score=row.score, loss=row.loss)
    used = subject.task.count("validation", images)
    return {"dense": dense, "metric": metric.to_dict(), "rows": rows, "images": used}
