"""``forecast``: what a budget comes to before anything is trained."""

from __future__ import annotations

import argparse
from typing import Any

from compression import methods, runs
from compression.cli.options import Commands, add_budget, add_json, budget, check_target
from compression.cli.output import answer, percent, size, table


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("forecast", help="sizes, work and error of a budget, before any training")
    add_budget(parser, several=False)
    add_json(parser)
    parser.set_defaults(command=forecast)


def forecast(asked: argparse.Namespace) -> int:
    """Ask the budget's method, and show what it answers layer by layer."""
    check_target(asked.json, "--json")
    values = {"--sparsity": asked.sparsity, "--bits": asked.bits}
    requested = runs.with_values(budget(asked), {name: value for name, value in values.items() if value is not None})
    method, requested = methods.of_budget(requested)
    method.check_budget(requested)

    from compression import zoo
    from compression.cli.pick import picked
    from compression.forecast import Subject
    from compression.graph import trace

    choice = picked(requested.model, requested.input, requested.classes, requested.weights, requested.data)
    graph = trace(choice.model, zoo.example(requested.model, input=choice.input))
    value = method.forecast(Subject(choice.model, graph), requested).to_dict()
    value = {"model": requested.model, "method": method.info.name, "weights": choice.weights, **value}
    answer(value, describe(value), asked.json)
    return 0


def describe(value: dict[str, Any]) -> str:
    """One line on the whole, the notes, and a row for each layer."""
    if value["certainty"] == "unknown":
        return "\n".join(value["notes"])
    low, high = value["bytes"]
    dense, least, most = value["dense"], value["low"], value["high"]
    parts = [
        f"{value['model']} with {value['method']} ({value['certainty']}; weights: {value['weights']})",
        size(low) if low == high else f"{size(low)} to {size(high)}",
        f"{percent(least['macs'] / dense['macs'])} of the MACs",
        f"{percent(least['rel_bops'])} to {percent(most['rel_bops'])} of the BOPs",
    ]
    error = [] if value["error"] is None else [f"squared error of the weights: {percent(value['error'])}"]
    rows = [_row(layer) for layer in value["layers"]]
    head = ("layer", "dense", "least", "most", "bits", "weights at zero")
    return "\n".join(["; ".join([*parts, *error]), *value["notes"], "", table(head, rows)])


def _row(layer: dict[str, Any]) -> tuple[str, ...]:
    low, high = layer["bits"]
    bits = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    sizes = (size(layer["dense_bytes"]), size(layer["low_bytes"]), size(layer["high_bytes"]))
    return (layer["name"], *sizes, bits, f"{layer['zeros']:,}")
