"""``untrained``: how accurate allocations are before any training."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from compression import methods
from compression.budget import Budget
from compression.cli.options import Commands, add_budget, add_json, budget, check_target
from compression.cli.output import answer, table
from compression.errors import CompressionError
from compression.jobs.curve import allocating

SPLITS = ("validation", "test")


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("untrained", help="accuracy of allocations before any training")
    add_budget(parser, several=True)
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="measured on (default: %(default)s)")
    parser.add_argument("--images", type=int, metavar="N", help="only the first N of them")
    parser.add_argument(
        "--statistics", action="store_true", help="measure again with batch-norm statistics recomputed, as a run does"
    )
    add_json(parser)
    parser.set_defaults(command=untrained)


def untrained(asked: argparse.Namespace) -> int:
    """Measure every combination of --sparsity and --bits (default: the budget's own) and show the table."""
    check_target(asked.json, "--json")
    if asked.images is not None and asked.images < 1:
        raise CompressionError(f"--images must be at least 1, not {asked.images}")
    wanted = budget(asked)
    wanted = _of_allocating(wanted)
    value = measured(wanted, _pairs(asked, wanted), asked.split, asked.images, asked.statistics)
    answer(value, describe(value), asked.json)
    return 0


def _pairs(asked: argparse.Namespace, wanted: Budget) -> list[tuple[float, float]]:
    values = methods.get(wanted.method).values(wanted)
    shares = asked.sparsity or [values.get("sparsity", 0.0)]
    widths = asked.bits or [values["bits"]]
    for width in widths:
        if isinstance(width, tuple):
            raise CompressionError(f"--bits: name single numbers, not {width[0]:g}:{width[1]:g}")
    return [(share, float(width)) for width in widths for share in shares]


def _of_allocating(wanted: Budget) -> Budget:
    """The budget with a method that allocates from the weights; another method's options say nothing here."""
    name = allocating(wanted.method)
    return wanted.replace(method=name, options=wanted.options if methods.get(wanted.method).allocates else {})


def measured(
    wanted: Budget, pairs: list[tuple[float, float]], split: str, limit: int | None, statistics: bool
) -> dict[str, Any]:
    """The answer as plain values: the dense accuracy, and a row for each budget."""
    from compression import zoo
    from compression.explain.untrained import dense_accuracy, measure_untrained
    from compression.graph import trace
    from compression.runs.preflight import check
    from compression.runs.prepare import load
    from compression.training.preparation import STATISTICS_BATCHES

    check(wanted)
    subject = load(wanted)
    dense = dense_accuracy(subject.model, subject.data, split, limit)
    rows = [
        dataclasses.asdict(row)
        for row in measure_untrained(
            subject.model,
            trace(subject.model, zoo.example(wanted.model, input=subject.input)),
            subject.data,
            wanted,
            pairs,
            split=split,
            limit=limit,
            statistics=STATISTICS_BATCHES if statistics else 0,
        )
    ]
    images = len(getattr(subject.data, split))
    return {
        "model": wanted.model, "data": wanted.data, "split": split, "images": min(limit or images, images),
        "dense": dense, "rows": rows,
    }  # fmt: skip


def describe(value: dict[str, Any]) -> str:
    """The rows in a table below one line on what they are."""
    again = any(row["recomputed"] is not None for row in value["rows"])
    head = ("sparsity", "bits", "error", "accuracy", *(("norms recomputed",) if again else ()))
    rows = [
        (
            f"{row['sparsity']:.0%}", f"{row['bits']:g}", f"{row['error']:.4f}", f"{row['accuracy']:.2%}",
            *((f"{row['recomputed']:.2%}",) if again else ()),
        )
        for row in value["rows"]
    ]  # fmt: skip
    first = f"{value['model']} on {value['images']:,} {value['split']} images, dense: {value['dense']:.2%}"
    return f"{first}\n\n{table(head, rows)}"
