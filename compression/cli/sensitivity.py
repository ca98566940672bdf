"""``sensitivity``: what one layer at a time costs, and the bounds that follow from it."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

from cyclopts import Parameter

from compression import home, methods
from compression.aligned import table
from compression.budget import Budget
from compression.cli import options
from compression.cli.output import answer
from compression.cli.progress import waited
from compression.data import kind
from compression.devices import AUTO
from compression.errors import CompressionError, RunFailed
from compression.jobs import sensitivity as study
from compression.jobs import studies
from compression.reading import LARGEST_INTEGER
from compression.runs.folder import DONE, QUEUED, RUNNING, RunFolder
from compression.tasks import Metric

Method = Annotated[str, Parameter(help="for whom: one that removes units, or weights (default: the first of methods)")]
Images = Annotated[int, options.COUNT, Parameter(metavar="N", help="of the validation split, for every measurement")]
Within = Annotated[float, Parameter(metavar="POINTS", help="bounds that lose at most this")]


def sensitivity(
    *, model: options.Model, data: options.Data, method: Method = "", preprocess: options.Preprocess = (),
    images: Images = study.IMAGES, within: Within = 1.0, device: options.Device = AUTO, runs: options.Runs = home.RUNS,
    json: options.Json = None, **shape: Unpack[options.Shape],
) -> None:  # fmt: skip
    """Measure (or read what was measured before), and show the table with the bounds that follow."""
    if not 1 <= images <= LARGEST_INTEGER or not 0 <= within <= 100:
        raise CompressionError("--images must be 1 or more (63 bits at most), and --within between 0 and 100 points")
    chosen = methods.get(method)
    constants = options.assignments(preprocess, "--preprocess", options.numbers_or_text) or None
    budget = Budget(method=chosen.info.name, model=model, data=data, sparsity=0.9, preprocess=constants, **shape)
    scan = _scan(budget, chosen.removes_units, images, runs, device)

    from compression.explain.layer_sensitivity import as_budget

    bounded = as_budget(scan, within, budget, chosen)
    value = {"model": model, "data": data, **scan, "within": within, "budget": bounded.to_dict()}
    answer(value, describe(scan, bounded, within, kind(data).many), json)


def _scan(budget: Budget, structured: bool, images: int, runs: str, device: str) -> dict[str, Any]:
    """The scan's result: an earlier one of the same, else a fresh one, waited for."""
    earlier = studies.find(study.key(budget, structured, images), runs)
    usable = earlier is not None and earlier.state in (DONE, RUNNING, QUEUED)
    job = earlier.id if earlier and usable else study.measure(budget, runs, structured, images, device)
    root = str(studies.studies(runs).root)
    result = waited(job, root)
    if result["status"] != DONE:
        log = RunFolder.open(root, job).log_path
        raise RunFailed(f"the scan {job} ended early ({result['status']}): {result.get('error') or f'see {log}'}")
    return {name: result[name] for name in ("structured", "dense", "metric", "images", "rows") if name in result}


def describe(scan: dict[str, Any], bounded: Budget, within: float, examples: str) -> str:
    """A row per layer and one per group: the score at every setting, and the bound that follows."""
    metric = Metric.from_result(scan)
    show, most = metric.show, f"within {within:g} {metric.points}".rstrip()
    lines = [f"dense: {show(scan['dense'])} on {scan['images']} validation {examples}; one layer changed at a time", ""]
    for change in dict.fromkeys(row["kind"] for row in scan["rows"]):
        rows = [row for row in scan["rows"] if row["kind"] == change]
        values = list(dict.fromkeys(row["value"] for row in rows))
        head = [f"{value:g} bits" if change == "bits" else f"{value:.0%} {change}" for value in values]
        names = list(dict.fromkeys(row["name"] for row in rows))
        scores = {(row["name"], row["value"]): show(row["score"]) for row in rows}
        body = [(name, *(scores[name, v] for v in values), _bound(bounded, name, change)) for name in names]
        lines += [table(("group" if change == "units" else "layer", *head, most), body), ""]
    return "\n".join(lines).rstrip()


def _bound(bounded: Budget, name: str, kind: str) -> str:
    if kind == "bits":
        low, high = bounded.layers[name]["weight_bits"]
        return f"{low} bits" if low == high else f"{low}:{high} bits"
    share = bounded.groups[name]["sparsity"][1] if kind == "units" else bounded.layers[name]["sparsity"]
    return f"{share:.0%}"
