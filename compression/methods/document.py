"""The reference of all methods as Markdown, from what they say of themselves.

python -m compression.methods.document > docs/methods.md
"""

from __future__ import annotations

from compression import methods
from compression.asks import Ask
from compression.methods.base import Method
from compression.options import Option

HEAD = """# Methods

What each method asks of a budget, and its options. In a budget file asks stand in `asks`, options in `options`; on the
command line an ask is its own option and an option is `--option NAME=VALUE`. This page is made by
`python -m compression.methods.document`; to add a method, see [adding a method](adding-a-method.md).
"""


def markdown() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(method) for method in methods.all_methods().values())])


def _section(method: Method) -> str:
    info = method.info
    source = f" ({info.paper})" if info.paper else ""
    lesson = f" Explained in the lesson [{info.lesson}](../lessons/{info.lesson}/text.md)." if info.lesson else ""
    training = "trains" if info.trains else "does not train"
    lines = [
        f"## {info.label} (`{info.name}`)",
        "",
        f"{info.sentence} {info.family.capitalize()}{source}; {training}.{lesson}",
        "",
        _table(("ask", "command line", "default", ""), [_ask(ask) for ask in method.asks]),
    ]
    options = [_option(option) for option in method.Config.table()]
    if options:
        lines += ["", _table(("option", "values", "default", ""), options)]
    return "\n".join([*lines, ""])


def _ask(ask: Ask) -> tuple[str, ...]:
    option = f"`{ask.option}`" if ask.option else "(a file)"
    default = "–" if ask.default is None else ask.words(ask.default) or "see the paper"
    return f"`{ask.field}`", option, default, ask.help


def _option(option: Option) -> tuple[str, ...]:
    values = option.allowed.removeprefix("one of ")
    return f"`{option.name}`", values, _spelled(option.default), option.help


def _spelled(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {weight:g}" for name, weight in value.items())
    return str(value).lower() if isinstance(value, bool) else "none" if value == () else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    print(markdown(), end="")
