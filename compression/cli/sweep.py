"""``sweep``: one method over several budgets."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from compression import runs as library
from compression.cli.budget import budget_and_axes
from compression.cli.options import Detach, Json, More, Priority, Runs, budget_options
from compression.cli.run import follow
from compression.errors import CompressionError

Find = Annotated[
    str | None,
    Parameter(
        choices=("smallest",), help="try only as many budgets as it takes to find the smallest that is good enough"
    ),
]
MinAccuracy = Annotated[float | None, Parameter(metavar="A", help="what is good enough, on validation: 0.97")]


@budget_options
def sweep(
    *, find: Find = None, min_accuracy: MinAccuracy = None, detach: Detach = False, priority: Priority = 0,
    runs: Runs = "runs", json: Json = None, **options: More,
) -> int:  # fmt: skip
    """Start a run for each combination of values (a comma separates those of an option), or a search among them."""
    requested, axes = budget_and_axes(options)
    common: dict[str, Any] = {
        "sparsity": axes.pop("--sparsity", ()), "bits": axes.pop("--bits", ()), "more": axes,
        "root": runs, "priority": priority,
    }  # fmt: skip
    if find is None and min_accuracy is None:
        return follow(library.sweep(requested, **common), runs, json, detach)
    if find is None or min_accuracy is None:
        raise CompressionError("--find smallest and --min-accuracy go together: the smallest model above that accuracy")
    return follow(library.find_smallest(requested, min_accuracy, **common), runs, json, detach)
