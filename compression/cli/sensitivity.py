"""``sensitivity``: what one layer at a time costs, and the bounds that follow from it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from compression import runs
from compression.budget import Budget
from compression.cli.options import Commands, add_json, add_preprocess, add_runs, add_shape, check_target
from compression.cli.output import answer, percent, table
from compression.cli.progress import Progress
from compression.errors import CompressionError, RunFailed
from compression.jobs import sensitivity as study
from compression.jobs import studies
from compression.reading import LARGEST_INTEGER
from compression.runs.folder import DONE, QUEUED, RUNNING, RunFolder


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("sensitivity", help="validation accuracy with one layer quantized or pruned at a time")
    parser.add_argument(
        "--model", required=True, help="a model of the zoo, torchvision:NAME or path/to/file.py:function"
    )
    parser.add_argument(
        "--data",
        required=True,
        help="a data set by name, or a folder of images in class folders (of a known name: ./NAME)",
    )
    parser.add_argument(
        "--method", default="", help="for whom: one that removes units, or weights (default: the first of methods)"
    )
    parser.add_argument("--images", type=int, default=study.IMAGES, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--within", type=float, default=1.0, metavar="POINTS", help="bounds that lose at most this (default: 1)"
    )
    add_shape(parser)
    add_preprocess(parser)
    add_runs(parser)
    add_json(parser)
    parser.set_defaults(command=sensitivity)


def sensitivity(asked: argparse.Namespace) -> int:
    """Measure (or find again what was measured), and show the table with the bounds that follow."""
    from compression import methods

    check_target(asked.json, "--json")
    if not 1 <= asked.images <= LARGEST_INTEGER or not 0 <= asked.within <= 100:
        raise CompressionError("--images must be 1 or more (63 bits at most), and --within between 0 and 100 points")
    method = methods.get(asked.method)
    budget = Budget(
        method=method.info.name, model=asked.model, data=asked.data, input=asked.input, classes=asked.classes,
        weights=asked.weights, sparsity=0.9, preprocess=dict(asked.preprocess) if asked.preprocess else None,
    )  # fmt: skip
    told = _table(budget, method.removes_units, asked)

    from compression.explain.layer_sensitivity import as_budget

    bounded = as_budget(told, asked.within, budget, method)
    value = {"model": asked.model, "data": asked.data, **told, "within": asked.within, "budget": bounded.to_dict()}
    answer(value, describe(told, bounded, asked.within), asked.json)
    return 0


def _table(budget: Budget, structured: bool, asked: argparse.Namespace) -> dict[str, Any]:
    """The scan's result: an earlier one of the same, else a fresh one, waited for."""
    found = studies.find(study.key(budget, structured, asked.images), asked.runs)
    going = found is not None and found.state in (DONE, RUNNING, QUEUED)
    job = found.id if found and going else study.measure(budget, asked.runs, structured, asked.images)
    root, progress = studies.studies(asked.runs).root, Progress()
    try:
        result = runs.wait(job, root, watch=progress)
    except KeyboardInterrupt:
        print(f"cancelling {job} …", file=sys.stderr)
        runs.cancel(job, root)
        raise
    finally:
        progress.close()
    if result["status"] != DONE:
        log = RunFolder.open(root, job).log_path
        raise RunFailed(f"the scan {job} ended early ({result['status']}): {result.get('error') or f'see {log}'}")
    return {name: result[name] for name in ("structured", "dense", "images", "rows")}


def describe(told: dict[str, Any], bounded: Budget, within: float) -> str:
    """A row per layer and one per group: accuracy at every setting, and the bound that follows."""
    lines = [f"dense: {percent(told['dense'])} on {told['images']} validation images; one layer changed at a time", ""]
    for kind in dict.fromkeys(row["kind"] for row in told["rows"]):
        rows = [row for row in told["rows"] if row["kind"] == kind]
        values = list(dict.fromkeys(row["value"] for row in rows))
        head = [f"{value:g} bits" if kind == "bits" else f"{value:.0%} {kind}" for value in values]
        names = list(dict.fromkeys(row["name"] for row in rows))
        accuracy = {(row["name"], row["value"]): percent(row["accuracy"]) for row in rows}
        body = [(name, *(accuracy[name, v] for v in values), _bound(bounded, name, kind)) for name in names]
        lines += [table(("group" if kind == "units" else "layer", *head, f"within {within:g} points"), body), ""]
    return "\n".join(lines).rstrip()


def _bound(bounded: Budget, name: str, kind: str) -> str:
    if kind == "bits":
        low, high = bounded.layers[name]["weight_bits"]
        return f"{low} bits" if low == high else f"{low}:{high} bits"
    share = bounded.groups[name]["sparsity"][1] if kind == "units" else bounded.layers[name]["sparsity"]
    return f"{share:.0%}"
