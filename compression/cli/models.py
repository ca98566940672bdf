"""``models``: what can be compressed."""

from __future__ import annotations

import argparse
from typing import Any

from compression.cli.options import Commands, add_json, check_target
from compression.cli.output import answer, shape, table


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("models", help="names, parameters, MACs, data sets they go with")
    add_json(parser)
    parser.set_defaults(command=models)


def models(asked: argparse.Namespace) -> int:
    """List the zoo."""
    check_target(asked.json, "--json")
    from compression import zoo
    from compression.zoo import weights

    listed = []
    for name in zoo.names():
        spec = zoo.spec(name)
        trained = [data for data in spec.data if weights.find(name, data, spec.input, spec.classes)]
        about = {"name": name, "title": spec.title, "summary": spec.summary, "family": spec.family}
        sizes = {"input": list(spec.input), "classes": spec.classes, "params": spec.params, "macs": spec.macs}
        listed.append({**about, **sizes, "data": list(spec.data), "trained": trained})
    head = ("model", "input", "classes", "parameters", "MACs", "data", "trained on")
    answer(listed, table(head, [_row(model) for model in listed]), asked.json)
    return 0


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(model["classes"]), f"{model['params']:,}", f"{model['macs']:,}")
    return (model["name"], shape(model["input"]), *counts, ", ".join(model["data"]), ", ".join(model["trained"]))
