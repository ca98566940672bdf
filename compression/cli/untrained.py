"""``untrained``: how accurate allocations are before any training."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from compression import devices, methods
from compression.budget import Budget
from compression.cli.budget import budget_and_axes
from compression.cli.options import COUNT, NOTHING, Device, Json, More, Typed
from compression.cli.output import answer, columns
from compression.errors import CompressionError
from compression.jobs.curve import allocating, check_allocates
from compression.tasks import Metric

ROWS = {
    "sparsity": "{sparsity:.0%}", "bits": "{bits:g}", "error": "{error:.4f}", "score": "{shown}",
    "norms recomputed": "{shown_recomputed}",
}  # fmt: skip
SPLITS = ("validation", "test")
Split = Annotated[str, Parameter(choices=SPLITS, help="measured on this one")]
Images = Annotated[int | None, COUNT, Parameter(metavar="N", help="only the first N of them")]
Statistics = Annotated[
    bool, Parameter(help="measure again with batch-norm statistics recomputed, as a run recomputes them")
]


def untrained(
    *, _budget: Typed = NOTHING, split: Split = SPLITS[0], images: Images = None, statistics: Statistics = False,
    device: Device = devices.AUTO, json: Json = None, **more: More,
) -> None:  # fmt: skip
    """Measure every combination of --sparsity and --bits (default: the budget's own) and show the table."""
    if images is not None and images < 1:
        raise CompressionError(f"--images must be at least 1, not {images}")
    if "method" in _budget:
        check_allocates(_budget["method"])
    requested, axes = budget_and_axes({**_budget, **more})
    for name in axes.keys() - {"--sparsity", "--bits"}:
        raise CompressionError(f"{name} takes one value here, only --sparsity and --bits several")
    own = requested.options if methods.get(requested.method).allocates else {}  # another method's mean nothing here
    requested = requested.replace(method=allocating(requested.method), options=own)
    value = measured(requested, _pairs(requested, axes), split, images, statistics, device)
    answer(value, describe(value), json)


def _pairs(budget: Budget, axes: dict[str, list[Any]]) -> list[tuple[float, float]]:
    method = methods.get(budget.method)
    values, bits = method.values(budget), method.ask("--bits")
    shares = axes.get("--sparsity", [values.get("sparsity", 0.0)])
    widths = axes.get("--bits", [] if bits is None else [values[bits.field]])
    for width in widths:
        if isinstance(width, tuple):
            raise CompressionError(f"--bits: name single numbers, not {width[0]:g}:{width[1]:g}")
    return [(share, float(width)) for width in widths for share in shares]


def measured(
    budget: Budget, pairs: list[tuple[float, float]], split: str, limit: int | None, statistics: bool, device: str
) -> dict[str, Any]:
    """The answer as plain values: the dense score, and a row for each budget."""
    from compression import zoo
    from compression.explain.untrained import dense_score, measure_untrained, row_of
    from compression.graph import trace
    from compression.runs.preflight import check
    from compression.runs.prepare import load
    from compression.training.preparation import STATISTICS_BATCHES

    where = devices.choose(device)
    check(budget)
    subject = load(budget)
    graph = trace(subject.model, zoo.example(budget.model, input=subject.input))
    subject = subject.on(where)
    rows = measure_untrained(
        subject.model, graph, subject.task, budget, pairs, split=split, limit=limit,
        statistics=STATISTICS_BATCHES if statistics else 0,
    )  # fmt: skip
    return {
        "model": budget.model, "data": budget.data, "split": split, "images": subject.task.count(split, limit),
        "dense": dense_score(subject.model, subject.task, split, limit),
        "metric": subject.task.metric.to_dict(),
        "rows": [row_of(row, subject.task.metric) for row in rows],
    }  # fmt: skip


def describe(value: dict[str, Any]) -> str:
    """The rows in a table below one line on what they are."""
    recomputed = any(row["recomputed"] is not None for row in value["rows"])
    shown = {name: cell for name, cell in ROWS.items() if recomputed or name != "norms recomputed"}
    metric = Metric.from_result(value)
    shown = {metric.label if name == "score" else name: cell for name, cell in shown.items()}
    dense = metric.show(value["dense"], 1)
    first = f"{value['model']} on {value['images']:,} {value['split']} images, dense: {dense}"
    rows = [
        {**row, "shown": metric.show(row["score"], 1), "shown_recomputed": metric.show(row["recomputed"], 1)}
        for row in value["rows"]
    ]
    return f"{first}\n\n{columns(shown, rows)}"
