"""Links to the Budget page from before it had one parameter: they are read for ever, and never written.

They had a parameter for each control (``method``, ``sparsity``, ``bits`` …) and a word for bounds, options and extras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app import plain
from app.budget import draft
from compression import methods
from compression.asks import ACTIVATION_BITS_OPTION, BITS_OPTION, HIGHEST_SPARSITY
from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.budget import Budget
from compression.errors import CompressionError

_BITS = (LOWEST_BITS, HIGHEST_BITS)
_FIELDS: Mapping[str, tuple[Any, float, float]] = {
    "sparsity": (0.5, 0.0, HIGHEST_SPARSITY),
    "bits": ((4, 8), *_BITS),
    "average_bits": (4.0, *_BITS),
    "equal_bits": (4, *_BITS),
    "activations": (False, 0, 1),
    "activation_bits": ((8, 8), *_BITS),
    "equal_activation_bits": (8, *_BITS),
    "epochs": (4.0, draft.FEWEST_EPOCHS, draft.MOST_EPOCHS),
    "seed": (0, -draft.LARGEST_SEED, draft.LARGEST_SEED),
}
"""Control → its default, whose type is that of its values, and its limits."""
NAMES = ("method", *_FIELDS)


def word_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a budget that an old word carried.

    Raises:
        CompressionError: its extras are no object.
    """
    extras = raw.get("extras", {})
    if not isinstance(extras, Mapping):
        raise CompressionError("the budget in the address: extras must be an object; the link may have been cut")
    return {"version": 2, **extras, **{name: value for name, value in raw.items() if name != "extras"}}


def unbounded(now: Budget) -> Budget:
    """An empty word: the controls stay, without bounds, options and extras."""
    asks = methods.get(now.method).asks
    shown = {ask.field: now.asks[ask.field] for ask in asks if ask.field in now.asks and ask.control() is not None}
    return Budget(method=now.method, epochs=now.epochs, seed=now.seed, asks=shown)


def take(given: Mapping[str, Sequence[str]]) -> list[str]:
    """Set the draft as these parameters say; returns a line for each that fell back to its default."""
    lines: list[str] = []
    values: dict[str, Any] = {}
    for name, texts in given.items():
        values[name] = _method(texts) if name == "method" else _read(texts, *_FIELDS[name])
        if values[name] is None:
            values[name] = methods.default() if name == "method" else _FIELDS[name][0]
            lines.append(_fallback(name, texts, values[name]))
    draft.choose_method(values.get("method", draft.get().method))
    draft.put(_with(draft.get(), values))
    return lines


def _method(texts: Sequence[str]) -> str | None:
    """A method by its name or its label."""
    names = {label: name for name, each in methods.all_methods().items() for label in (name, each.info.label)}
    return names.get(texts[0]) if len(texts) == 1 else None


def _read(texts: Sequence[str], default: Any, low: float, high: float) -> Any:
    """The value of a control; ``None`` where the texts cannot mean one."""
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(texts[0].lower()) if len(texts) == 1 else None
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    ends, whole = (2 if isinstance(default, tuple) else 1), not isinstance(default, float)
    if len(numbers) != ends or numbers != sorted(numbers) or not all(low <= number <= high for number in numbers):
        return None
    if whole and not all(map(float.is_integer, numbers)):
        return None
    values = [int(number) if whole else number for number in numbers]
    return values[0] if ends == 1 else tuple(values)


def _with(budget: Budget, values: Mapping[str, Any]) -> Budget:
    """The budget with the values of those old controls that its method had."""
    method, asks = methods.get(budget.method), dict(budget.asks)
    if "sparsity" in values:
        asks["sparsity"] = values["sparsity"]
    for option, names in (
        (BITS_OPTION, ("bits", "average_bits", "equal_bits")),
        (ACTIVATION_BITS_OPTION, ("activation_bits", "activation_bits", "equal_activation_bits")),
    ):
        ask = method.ask(option)
        control = ask.control() if ask is not None else None
        if ask is None or control is None:
            continue
        name = names[0] if control.kind == "range" else names[1] if control.step < 1 else names[2]
        switched_on = values.get("activations", asks.get(ask.field) is not None)
        if name in values:
            asks[ask.field] = values[name]
        if control.optional and not switched_on:
            asks.pop(ask.field, None)
        elif control.optional and asks.get(ask.field) is None:
            asks[ask.field] = control.default
    training = {name: values[name] for name in ("epochs", "seed") if name in values}
    return budget.replace(asks=asks, **training)


def _fallback(name: str, texts: Sequence[str], value: Any) -> str:
    shown = plain.text(", ".join(texts)[:40]) or "nothing"
    used = methods.get(value).info.label if name == "method" else str(value).lower()
    if isinstance(value, tuple):
        used = " to ".join(map(str, value))
    return f"The address says {name} = {shown}, which cannot be: {used.removesuffix('.0')} is used."
