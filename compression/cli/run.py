"""``run`` and ``sweep``: one method with one budget or with several, waited for to the end."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from compression import commands, home
from compression import methods as all_methods
from compression import runs as library
from compression.cli.budget import budget, budget_and_axes
from compression.cli.options import COUNT, NOTHING, Detach, Device, Json, More, Priority, Runs, Typed
from compression.cli.output import answer
from compression.cli.progress import waited
from compression.cli.summary import summary
from compression.devices import AUTO
from compression.errors import CompressionError
from compression.runs import race
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
Methods = Annotated[
    str, Parameter(metavar="NAME,…", help="a race: all these methods on the budgets, each made as small as --method")
]
Seeds = Annotated[str, Parameter(metavar="N,…", help="a race from each of these seeds, such as 0,1,2")]
Match = Annotated[
    str,
    Parameter(choices=race.MATCHES, help="what the methods of a race have in common (default: sparsity)"),
]
Yes = Annotated[bool, Parameter(negative=(), help=f"start a race of more than {race.MOST_RUNS} runs")]


def run(
    *, _budget: Typed = NOTHING, device: Device = AUTO, gpus: Gpus = 1, gradient_bits: GradientBits = None,
    detach: Detach = False, priority: Priority = 0, runs: Runs = home.RUNS, json: Json = None, **more: More,
) -> int:  # fmt: skip
    """Start the run and follow it."""
    requested = budget({**_budget, **more})
    together: dict[str, Any] = {"device": device, "gpus": gpus, "gradient_bits": gradient_bits}
    return follow(library.start(requested, runs, priority=priority, **together), runs, json, detach)


def sweep(
    *, _budget: Typed = NOTHING, methods: Methods = "", seeds: Seeds = "", match: Match = "", yes: Yes = False,
    find: Find = None, min_score: MinScore = None, device: Device = AUTO, gpus: Gpus = 1, detach: Detach = False,
    priority: Priority = 0, runs: Runs = home.RUNS, json: Json = None, **more: More,
) -> int:  # fmt: skip
    """Start a run for each combination of values (a comma separates those of an option), or a search among them."""
    requested, axes = budget_and_axes({**_budget, **more})
    if match and not methods:
        raise CompressionError("--match: only what several --methods have in common can be matched")
    if methods or seeds:
        if find or min_score is not None:
            raise CompressionError("--find: a race has no search; leave --methods and --seeds out")
        names = [name for name in methods.split(",") if name] or [requested.method or all_methods.default()]
        budgets = library.combinations(requested, axes.pop("--sparsity", ()), axes.pop("--bits", ()), axes)
        common: dict[str, Any] = {"confirmed": yes, "priority": priority, "device": device, "gpus": gpus}
        matched = match or race.SPARSITY
        started = race.race(budgets, names, _seeds(seeds, requested.seed), matched, runs, **common)
        return follow(started, runs, json, detach)
    axes_of: dict[str, Any] = {
        "sparsity": axes.pop("--sparsity", ()), "bits": axes.pop("--bits", ()), "more": axes,
        "root": runs, "priority": priority, "device": device,
    }  # fmt: skip
    if find is None and min_score is None:
        return follow(library.sweep(requested, **axes_of, gpus=gpus), runs, json, detach)
    if gpus > 1:
        raise CompressionError("--gpus: a search takes one run after the other, each decided by the last")
    if find is None or min_score is None:
        raise CompressionError("--find smallest and --min-score go together: the smallest model that is that good")
    return follow(library.find_smallest(requested, min_score, **axes_of), runs, json, detach)


def _seeds(text: str, own: int) -> list[int]:
    """The seeds typed, or that of the budget.

    Raises:
        CompressionError: what is no whole number.
    """
    try:
        return [int(part) for part in text.split(",")] if text else [own]
    except ValueError:
        raise CompressionError(f"--seeds must be whole numbers such as 0,1,2, not {text}") from None


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
