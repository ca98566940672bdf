"""``forecast``: what a budget comes to before anything is trained."""

from __future__ import annotations

from typing import Any

from compression import methods, zoo
from compression.cli.budget import budget
from compression.cli.options import Json, More, budget_options
from compression.cli.output import answer, percent, size, table
from compression.cli.pick import pick


@budget_options
def forecast(*, json: Json = None, **options: More) -> None:
    """Ask the budget's method, and show what it answers layer by layer."""
    method, requested = methods.of_budget(budget(options))
    method.check_budget(requested)

    from compression.forecast import Subject
    from compression.graph import trace

    picked = pick(requested.model, requested.data, requested.input, requested.classes, requested.weights)
    graph = trace(picked.model, zoo.example(requested.model, input=picked.input))
    value = method.forecast(Subject(picked.model, graph), requested).to_dict()
    value = {"model": requested.model, "method": method.info.name, "weights": picked.weights, **value}
    answer(value, describe(value), json)


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
