"""``methods``: how networks can be compressed, what each way asks for, and its options."""

from __future__ import annotations

import argparse
from typing import Any

from compression.cli.options import Commands, add_json, check_target
from compression.cli.output import answer, table


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("methods", help="names, what they ask for, their options")
    parser.add_argument("method", nargs="?", metavar="METHOD", help="show the options of this one")
    add_json(parser)
    parser.set_defaults(command=methods)


def methods(asked: argparse.Namespace) -> int:
    """List the methods, or one method's options."""
    check_target(asked.json, "--json")
    from compression import methods as registry

    if asked.method:
        value: Any = registry.get(asked.method).to_dict()
        rows = [(name, *_option(option)) for name, option in value["options"].items()]
        text = f"{value['label']}: {value['sentence']}\n\n{table(('option', 'default', 'values', ''), rows)}"
    else:
        value = [method.to_dict() for method in registry.all_methods().values()]
        rows = [(each["name"], each["label"], each["family"], " ".join(_asks(each))) for each in value]
        text = table(("method", "", "family", "asks"), rows)
    answer(value, text, asked.json)
    return 0


def _asks(method: dict[str, Any]) -> list[str]:
    return [ask["option"] or ask["field"] for ask in method["asks"]]


def _option(option: dict[str, Any]) -> tuple[str, str, str]:
    values = ", ".join(map(str, option.get("choices", ())))
    if not values and "low" in option:
        values = f"{option['low']:g} to {option.get('high', float('inf')):g}"
    return str(option["default"]), values, option["help"]
