"""``forecast`` and ``allocate``: what a budget comes to, layer by layer, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from compression import home, methods
from compression.budget import Budget
from compression.cli import options as opt
from compression.cli.budget import ask_texts, ask_value, budget
from compression.cli.output import answer, columns, percent, size
from compression.cli.pick import pick
from compression.jobs.curve import allocating, check_allocates
from compression.runs import pace
from compression.runs.folder import RunFolder
from compression.runs.preflight import absolute
from compression.runs.store import Store

FORECAST = {
    "layer": "{name}", "dense": "{dense_bytes:size}", "least": "{low_bytes:size}", "most": "{high_bytes:size}",
    "bits": "{bits:range}", "weights at zero": "{zeros:,}",
}  # fmt: skip
ALLOCATION = {
    "layer": "{name}", "weights": "{numel:,}", "pruned": "{pruned:,}", "sparsity": "{sparsity:.1%}", "bits": "{bits}",
    "step": "{step:.6f}", "error": "{error:.6f}", "offset": "{offset:.6f}", "scales": "{scales:count}",
    "coded": "{coded:size}", "scheme": "{scheme}",
}  # fmt: skip
BYTES = {
    "nominal": "nominal: weights at their bits, steps and floats",
    "ideal": "values and positions of zeros coded ideally",
    "coded": "codes as the packed file holds them",
}
Allocating = Annotated[str, Parameter(help="one that allocates (default: the first that does)")]


def forecast(
    *, _budget: opt.Typed = opt.NOTHING, runs: opt.Runs = home.RUNS, json: opt.Json = None, **more: opt.More
) -> None:
    """Ask the budget's method, and show what it answers layer by layer."""
    method, requested = methods.of_budget(budget({**_budget, **more}))
    subject, origin = pick(requested.model, requested.data, requested.input, requested.classes, requested.weights)
    value = method.forecast(subject, requested).to_dict()
    value = {"model": requested.model, "method": method.info.name, "weights": origin, **value}
    if estimate := _estimate(requested, runs, float(subject.graph.macs)):
        value |= {"seconds": round(estimate.seconds, 1), "seconds_basis": estimate.basis}
    answer(value, describe_forecast(value), json)


def _estimate(requested: Budget, runs: str, macs: float) -> pace.Estimate | None:
    """How long a run takes on this machine, by the runs in a folder."""
    if not Path(runs).is_dir():
        return None
    store, plain = Store(runs), absolute(requested)
    return pace.estimate(plain, store.list(), lambda run: pace.of_run(RunFolder(store.root / run)), macs)


def allocate(
    model: opt.Model, /, *, input: opt.Input = None, classes: opt.Classes = None, weights: opt.Weights = None,
    _amounts: Annotated[opt.Amounts, Parameter(name="*")] = opt.NOTHING, method: Allocating = "",
    config: opt.Config = None, option: opt.Option = (), data: opt.TrainedOn = None, json: opt.Json = None,
    **more: opt.More,
) -> None:  # fmt: skip
    """Allocate and show the table."""
    if method:
        check_allocates(method)
    base = Budget.load(config) if config else Budget()
    own = base.options if methods.get(base.method).allocates else {}  # another method's options mean nothing here
    own = {**own, **opt.assignments(option, "--option", opt.json_or_text)}
    base = base.replace(method=allocating(method or base.method), options=own)
    texts = ask_texts({**_amounts, **more}, ())
    requested = methods.with_values(base, {name: ask_value(name, text) for name, text in texts.items()})
    chosen = methods.get(requested.method)
    chosen.check_budget(requested)
    subject, origin = pick(model, data, input, classes, weights)
    value = chosen.allocation(subject, requested).to_dict(model, origin)
    answer(value, describe_allocation(value), json)


def describe_forecast(value: dict[str, Any]) -> str:
    """One line on the whole, the notes, how long a run takes where that is known, and a row for each layer."""
    seconds = [f"about {value['seconds']:.0f} s ({value['seconds_basis']})"] if "seconds" in value else []
    if value["certainty"] == "unknown":
        return "\n".join([*value["notes"], *seconds])
    low, high = value["bytes"]
    dense, least, most = value["dense"], value["low"], value["high"]
    parts = [
        f"{value['model']} with {value['method']} ({value['certainty']}; weights: {value['weights']})",
        f"{size(low) if low == high else f'{size(low)} to {size(high)}'} ({BYTES[value['bytes_kind']]})",
        f"{percent(least['macs'] / dense['macs'])} of the MACs",
        f"{percent(least['rel_bops'])} to {percent(most['rel_bops'])} of the BOPs",
    ]
    error = [] if value["error"] is None else [f"squared error of the weights: {percent(value['error'])}"]
    table = ["", columns(FORECAST, value["layers"])] if value["layers"] else []
    return "\n".join(["; ".join([*parts, *error]), *value["notes"], *seconds, *table])


def describe_allocation(value: dict[str, Any]) -> str:
    """The layers in a table, with a column for what else some of them store, and what they add up to."""
    optional = ("offset", "scales", "coded", "scheme")
    unused = {name for name in optional if all(layer[name] is None for layer in value["layers"])}
    shown = {name: cell for name, cell in ALLOCATION.items() if name not in unused}
    rows = [{**layer, "sparsity": layer["pruned"] / layer["numel"]} for layer in value["layers"]]
    width = f"{value['value_bits'] / max(1, value['numel'] - value['pruned']):.3f}"
    parts = [
        f"{value['model']}: {value['pruned']:,} of {value['numel']:,} weights pruned",
        f"{width} bits for each that stays (requested: {value['bits']:g})"
        if "coded" in unused
        else f"integers of {width} bits on average",
        "optimal" if value["exact"] else "approximate",
        f"weights: {value['weights']}",
    ]
    return "\n".join(["; ".join(parts), *value.get("notes", ()), "", columns(shown, rows)])
