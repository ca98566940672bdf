"""``sweep``: one method over several budgets."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from compression import runs
from compression.cli.options import Commands, add_budget, add_json, add_priority, add_runs, budget, check_target
from compression.cli.run import follow
from compression.errors import CompressionError


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("sweep", help="compress a model with several budgets, one after another")
    add_budget(parser, several=True)
    parser.add_argument(
        "--find", choices=("smallest",), help="try only as many budgets as it takes to find the smallest good enough"
    )
    parser.add_argument("--min-accuracy", type=float, metavar="A", help="what is good enough, on validation: 0.97")
    parser.add_argument("--detach", action="store_true", help="print the sweep's id and return at once")
    add_priority(parser)
    add_runs(parser)
    add_json(parser)
    parser.set_defaults(command=sweep)


def sweep(asked: argparse.Namespace) -> int:
    """Start a run for each combination, or a search among them, and follow it."""
    check_target(asked.json, "--json")
    wanted = budget(asked)
    shares, widths = asked.sparsity or (), asked.bits or ()
    if (asked.find is None) != (asked.min_accuracy is None):
        raise CompressionError("--find smallest and --min-accuracy go together: the smallest model above that accuracy")
    if asked.find is not None:
        least = asked.min_accuracy
        start = partial(runs.find_smallest, wanted, least, shares, widths, asked.runs, priority=asked.priority)
    else:
        start = partial(runs.sweep, wanted, shares, widths, asked.runs, priority=asked.priority)
    return follow(start, asked)
