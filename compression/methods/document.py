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

TAIL = """## Not among them

- **ORQ and BinGrad** (arXiv 2002.11082) compress gradients between processes, not a model:
  `run --gpus N --gradient-bits B` ([devices](devices.md#several-gpus)) and lesson 15.
- **QORNN** (arXiv 2402.04012) trains recurrent matrices of few bits that stay nearly orthogonal: lesson 16, and
  `compression.quant.orthogonal.QuantizedOrthogonal` for a layer of one's own. No built-in model is recurrent.
- **HKNAS** (arXiv 2304.11701) searches kernel sizes for hyperspectral images and trains the network anew: it designs
  a network and compresses none. What of it belongs here are its *rings*: a 5 × 5 or 7 × 7 kernel holds the smaller
  ones, and its outer ring could leave as a unit does, which saves MACs without touching a channel. A convolution whose
  outer ring is zero equals the one with the cropped kernel and one pixel less padding. That is left for later:
  built-in networks convolve 3 × 3 at most, patches aside.
"""


def markdown() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(method) for method in methods.all_methods().values()), TAIL])


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
