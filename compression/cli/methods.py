"""``methods``: how networks can be compressed, what each method asks for, and its options."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from compression import methods as registry
from compression.cli.options import Json
from compression.cli.output import answer, table


def methods(
    method: Annotated[str, Parameter(help="show the options of this one")] = "", /, *, json: Json = None
) -> None:
    """List the methods, or one method's options."""
    if method:
        value: Any = registry.get(method).to_dict()
        rows = [(name, *_option(option)) for name, option in value["options"].items()]
        text = f"{value['label']}: {value['sentence']}\n\n{table(('option', 'default', 'values', ''), rows)}"
    else:
        value = [each.to_dict() for each in registry.all_methods().values()]
        rows = [(each["name"], each["label"], each["family"], " ".join(_asks(each))) for each in value]
        text = table(("method", "", "family", "asks"), rows)
    answer(value, text, json)


def _asks(method: dict[str, Any]) -> list[str]:
    return [ask["option"] or ask["field"] for ask in method["asks"]]


def _option(option: dict[str, Any]) -> tuple[str, str, str]:
    values = ", ".join(map(str, option.get("choices", ())))
    if not values and "low" in option:
        values = f"{option['low']:g} to {option.get('high', float('inf')):g}"
    return str(option["default"]), values, option["help"]
