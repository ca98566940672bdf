"""``allocate``: an allocation of zeros and bits, from the weights alone."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from compression import methods, zoo
from compression.budget import Budget
from compression.cli import options
from compression.cli.budget import ask_texts, ask_value, with_asks
from compression.cli.output import answer, table
from compression.cli.pick import pick
from compression.jobs.curve import allocating

Allocating = Annotated[str, Parameter(help="one that allocates (default: the first that does)")]


@options.takes(options.ask_rows("--sparsity", "--bits"), others=True)
def allocate(
    model: options.Model, /, *, method: Allocating = "", config: options.Config = None, option: options.Option = (),
    data: options.TrainedOn = None, input: options.Input = None, classes: options.Classes = None,
    weights: options.Weights = None, json: options.Json = None, **asks: options.More,
) -> None:  # fmt: skip
    """Allocate and show the table."""
    base = Budget.load(config) if config else Budget()
    own = base.options if methods.get(base.method).allocates else {}  # another method's options mean nothing here
    own = {**own, **options.assignments(option, "--option", options.json_or_text)}
    base = base.replace(method=allocating(method or base.method), options=own)
    budget = with_asks(base, {name: ask_value(name, text) for name, text in ask_texts(asks).items()})
    methods.get(budget.method).check_budget(budget)

    from compression.forecast import Subject
    from compression.graph import trace

    picked = pick(model, data, input, classes, weights)
    graph = trace(picked.model, zoo.example(model, input=picked.input))
    allocation = methods.get(budget.method).allocation(Subject(picked.model, graph), budget)
    value = allocation.to_dict(model, picked.weights)
    answer(value, describe(value), json)


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
            *(_stored(layer[name]) for name in more),
        )
        for layer in value["layers"]
    ]
    remaining = value["numel"] - value["pruned"]
    parts = [
        f"{value['model']}: {value['pruned']:,} of {value['numel']:,} weights pruned",
        f"{value['value_bits'] / max(1, remaining):.3f} bits for each that stays (requested: {value['bits']:g})",
        "optimal" if value["exact"] else "approximate",
        f"weights: {value['weights']}",
    ]
    return "\n".join(["; ".join(parts), *value.get("notes", ()), "", table((*head, *more), rows)])


def _stored(value: Any) -> str:
    """An offset, or how many scales there are."""
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(len(value))
