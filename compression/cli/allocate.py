"""``allocate``: an allocation of zeros and bits, from the weights alone."""

from __future__ import annotations

import argparse
from typing import Any

from compression import methods, runs
from compression.budget import Budget
from compression.cli.options import Commands, add_json, add_shape, assignment, check_target
from compression.cli.output import answer, table
from compression.jobs.curve import allocating


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("allocate", help="zeros and bits from the weights alone, no training")
    parser.add_argument(
        "model", metavar="MODEL", help="a model of the zoo, torchvision:NAME or path/to/file.py:function"
    )
    parser.add_argument(
        "--sparsity", type=float, default=None, metavar="S", help="share of weights to prune, in [0, 1)"
    )
    parser.add_argument("--bits", type=float, default=None, metavar="B", help="average bits of the weights that stay")
    parser.add_argument("--method", help="one that allocates (default: the first that does)")
    parser.add_argument("--config", metavar="FILE", help="a budget as JSON: its sparsity, bits, layers and options")
    parser.add_argument("--data", help="take the weights trained on this data set")
    parser.add_argument("--option", type=assignment, action="append", default=[], metavar="KEY=VALUE")
    add_shape(parser)
    add_json(parser)
    parser.set_defaults(command=allocate)


def allocate(asked: argparse.Namespace) -> int:
    """Allocate and show the table."""
    check_target(asked.json, "--json")
    budget = _budget(asked)
    from compression import zoo
    from compression.cli.pick import pick
    from compression.forecast import Subject
    from compression.graph import trace

    picked = pick(asked)
    graph = trace(picked.model, zoo.example(asked.model, input=picked.input))
    allocation = methods.get(budget.method).allocation(Subject(picked.model, graph), budget)
    value = allocation.to_dict(asked.model, picked.weights)
    answer(value, describe(value), asked.json)
    return 0


def _budget(asked: argparse.Namespace) -> Budget:
    base = Budget.load(asked.config) if asked.config else Budget()
    own = base.options if methods.get(base.method).allocates else {}  # another method's options say nothing here
    base = base.replace(method=allocating(asked.method or base.method), options={**own, **dict(asked.option)})
    values = {"--sparsity": asked.sparsity, "--bits": asked.bits}
    budget = runs.with_values(base, {option: value for option, value in values.items() if value is not None})
    methods.get(budget.method).check_budget(budget)
    return budget


def describe(value: dict[str, Any]) -> str:
    """The layers in a table, and what they add up to."""
    head = ("layer", "weights", "pruned", "sparsity", "bits", "step", "error")
    more = [name for name in ("offset", "scales") if any(layer[name] is not None for layer in value["layers"])]
    rows = [
        (
            layer["name"],
            f"{layer['numel']:,}",
            f"{layer['pruned']:,}",
            f"{layer['pruned'] / layer['numel']:.1%}",
            layer["bits"],
            f"{layer['step']:.6f}",
            f"{layer['error']:.6f}",
            *(_beside(layer[name]) for name in more),
        )
        for layer in value["layers"]
    ]
    left = value["numel"] - value["pruned"]
    parts = [
        f"{value['model']}: {value['pruned']:,} of {value['numel']:,} weights pruned",
        f"{value['value_bits'] / max(1, left):.3f} bits for each that stays (asked: {value['bits']:g})",
        "optimal" if value["exact"] else "approximate",
        f"weights: {value['weights']}",
    ]
    return "\n".join(["; ".join(parts), *value.get("notes", ()), "", table((*head, *more), rows)])


def _beside(found: Any) -> str:
    """An offset, or how many scales there are."""
    if found is None:
        return ""
    return f"{found:.6f}" if isinstance(found, float) else str(len(found))
