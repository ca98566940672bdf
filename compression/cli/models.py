"""``models``: what can be compressed."""

from __future__ import annotations

from typing import Any

from compression import zoo
from compression.cli.options import Json
from compression.cli.output import answer, shape, table
from compression.zoo import weights


def models(*, json: Json = None) -> None:
    """List the zoo."""
    listed = []
    for name in zoo.names():
        spec = zoo.spec(name)
        trained = [data for data in spec.data if weights.find(name, data, spec.input, spec.classes)]
        about = {"name": name, "title": spec.title, "summary": spec.summary, "family": spec.family}
        sizes = {"input": list(spec.input), "classes": spec.classes, "params": spec.params, "macs": spec.macs}
        listed.append({**about, **sizes, "data": list(spec.data), "trained": trained})
    head = ("model", "input", "classes", "parameters", "MACs", "data", "trained on")
    answer(listed, table(head, [_row(model) for model in listed]), json)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(model["classes"]), f"{model['params']:,}", f"{model['macs']:,}")
    return (model["name"], shape(model["input"]), *counts, ", ".join(model["data"]), ", ".join(model["trained"]))
