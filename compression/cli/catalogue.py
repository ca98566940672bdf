"""``models``, ``methods`` and ``tasks``: what can be compressed, how, and what it is for."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from compression import data as data_sets
from compression import methods as registry
from compression import zoo
from compression.cli.options import Json
from compression.cli.output import answer, columns
from compression.tasks import METRIC_OF_TASK

One = Annotated[str, Parameter(help="show the options of this one")]
MODELS = {
    "model": "{name}", "input": "{input:shape}", "classes": "{classes}", "parameters": "{params:,}",
    "MACs": "{macs:,}", "data": "{data:list}", "trained on": "{trained:list}",
}  # fmt: skip
FIELDS = ("name", "title", "summary", "family", "input", "classes", "params", "macs", "data")
METHODS = {"method": "{name}", "": "{label}", "family": "{family}", "asks": "{asks}"}
TASKS = {"task": "{name}", "measured by": "{label}", "better": "{better}", "data": "{data:list}"}
OPTIONS = {"option": "{name}", "default": "{default}", "values": "{values}", "": "{help}"}


def models(*, json: Json = None) -> None:
    """List the zoo."""
    from compression.zoo import weights

    listed = []
    for name in zoo.names():
        spec = zoo.spec(name)
        trained = [data for data in spec.data if weights.find(name, data, spec.input, spec.classes)]
        listed.append({**{field: getattr(spec, field) for field in FIELDS}, "trained": trained})
    answer(listed, columns(MODELS, listed), json)


def methods(method: One = "", /, *, json: Json = None) -> None:
    """List the methods, or one method's options."""
    if method:
        value: Any = registry.get(method).to_dict()
        rows = [{"name": name, **option, "values": _values(option)} for name, option in value["options"].items()]
        text = f"{value['label']}: {value['sentence']}{_sources(value)}\n\n{columns(OPTIONS, rows)}"
    else:
        value = [each.to_dict() for each in registry.all_methods().values()]
        asks = [" ".join(ask["option"] or ask["field"] for ask in each["asks"]) for each in value]
        text = columns(METHODS, [{**each, "asks": words} for each, words in zip(value, asks, strict=True)])
    answer(value, text, json)


def tasks(*, json: Json = None) -> None:
    """List the tasks: the metric of each, and the data sets that imply it."""
    listed = [
        {
            **metric.to_dict(),
            "name": task,
            "metric": metric.name,
            "data": [info.name for info in data_sets.infos() if info.task == task],
        }
        for task, metric in METRIC_OF_TASK.items()
    ]
    answer(listed, columns(TASKS, listed), json)


def _sources(method: dict[str, Any]) -> str:
    paper = f" Paper: {method['paper']}." if method["paper"] else ""
    return paper + (f" Lesson: {method['lesson']}, on the app's page Learn." if method["lesson"] else "")


def _values(option: dict[str, Any]) -> str:
    values = ", ".join(map(str, option.get("choices", ())))
    if not values and "low" in option:
        values = f"{option['low']:g} to {option.get('high', float('inf')):g}"
    return values
