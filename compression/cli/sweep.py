"""``sweep``: one method over several budgets."""

from __future__ import annotations

import argparse
from typing import Any

from compression import runs
from compression.cli.options import Commands
from compression.cli.options import add_budget
from compression.cli.options import add_json
from compression.cli.options import add_priority
from compression.cli.options import add_runs
from compression.cli.options import budget
from compression.cli.options import check_target
from compression.cli.run import follow


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("sweep", help="compress a model with several budgets, one after another")
    add_budget(parser, several=True)
    parser.add_argument("--detach", action="store_true", help="print the sweep's id and return at once")
    add_priority(parser)
    add_runs(parser)
    add_json(parser)
    parser.set_defaults(command=sweep)


def sweep(asked: argparse.Namespace) -> int:
    """Start a run for each combination and follow them."""
    check_target(asked.json, "--json")
    wanted = budget(asked)
    shares, widths = asked.sparsity or (), asked.bits or ()
    return follow(lambda: runs.sweep(wanted, shares, widths, asked.runs, priority=asked.priority), asked)
