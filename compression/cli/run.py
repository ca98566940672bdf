"""``run`` and ``sweep``: one method with one budget or with several, waited for to the end."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from compression import commands
from compression import runs as library
from compression.cli.budget import budget, budget_and_axes
from compression.cli.options import COUNT, NOTHING, Detach, Device, Json, More, Priority, Runs, Typed
from compression.cli.output import answer
from compression.cli.progress import waited
from compression.cli.summary import summary
from compression.devices import AUTO
from compression.errors import CompressionError
from compression.runs.folder import DONE, PAUSED

Gpus = Annotated[
    int,
    COUNT,
    Parameter(
        metavar="N", help="use so many GPUs of this machine: a run divides its batches among them, a sweep its runs"
    ),
]
GradientBits = Annotated[
    int | None,
    COUNT,
    Parameter(
        metavar="B", help="with --gpus: send gradients in 1 to 8 bits a value, rounded at random (default: as fp32)"
    ),
]
Find = Annotated[
    str | None,
    Parameter(
        choices=("smallest",), help="try only as many budgets as it takes to find the smallest that is good enough"
    ),
]
MinScore = Annotated[
    float | None,
    Parameter(name=("--min-score", "--min-accuracy"), metavar="S", help="what is good enough, on validation: 0.97"),
]


def run(
    *, _budget: Typed = NOTHING, device: Device = AUTO, gpus: Gpus = 1, gradient_bits: GradientBits = None,
    detach: Detach = False, priority: Priority = 0, runs: Runs = "runs", json: Json = None, **more: More,
) -> int:  # fmt: skip
    """Start the run and follow it."""
    requested = budget({**_budget, **more})
    together: dict[str, Any] = {"device": device, "gpus": gpus, "gradient_bits": gradient_bits}
    return follow(library.start(requested, runs, priority=priority, **together), runs, json, detach)


def sweep(
    *, _budget: Typed = NOTHING, find: Find = None, min_score: MinScore = None, device: Device = AUTO,
    gpus: Gpus = 1, detach: Detach = False, priority: Priority = 0, runs: Runs = "runs", json: Json = None,
    **more: More,
) -> int:  # fmt: skip
    """Start a run for each combination of values (a comma separates those of an option), or a search among them."""
    requested, axes = budget_and_axes({**_budget, **more})
    common: dict[str, Any] = {
        "sparsity": axes.pop("--sparsity", ()), "bits": axes.pop("--bits", ()), "more": axes,
        "root": runs, "priority": priority, "device": device,
    }  # fmt: skip
    if find is None and min_score is None:
        return follow(library.sweep(requested, **common, gpus=gpus), runs, json, detach)
    if gpus > 1:
        raise CompressionError("--gpus: a search takes one run after the other, each decided by the last")
    if find is None or min_score is None:
        raise CompressionError("--find smallest and --min-score go together: the smallest model that is that good")
    return follow(library.find_smallest(requested, min_score, **common), runs, json, detach)


def follow(run: str, runs: str, json: str | None, detach: bool) -> int:
    """Wait for a run to its end with a progress bar (or not, with ``detach``), answer, and return the exit status."""
    if detach:
        answer({"run": run, "status": library.RunFolder.open(runs, run).state}, run, json)
        return 0
    result = waited(run, runs)
    answer(result, summary(result), json)
    if result["status"] == DONE:
        return 0
    if result["status"] == PAUSED:
        print(f"paused; continue with: {commands.line('resume', run, options={'runs': runs})}", file=sys.stderr)
        return 1
    reason = result.get("error") or f"see {library.RunFolder.open(runs, run).log_path}"
    print(f"error: run {run} {ended(result['status'])}: {reason}", file=sys.stderr)
    return 1


def ended(status: str) -> str:
    """The status as a verb of a sentence."""
    return {"cancelled": "was cancelled", "lost": "was lost (its process ended)"}.get(status, status)
