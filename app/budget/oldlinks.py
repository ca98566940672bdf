"""Links to the Budget page from before it had one parameter: they are read for ever, and never written.

They had a parameter for each control (``method``, ``sparsity``, ``bits`` …) and a word for bounds, options and extras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from app import plain
from app.budget import draft
from compression import methods
from compression.asks import ACTIVATION_BITS_OPTION, BITS_OPTION, HIGHEST_SPARSITY
from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.budget import Budget
from compression.reading import Text, typed

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class _Field:
    """A control of old: its default, and its limits where it was a number or (``ends`` is 2) a range."""

    default: Any
    low: float = LOWEST_BITS
    high: float = HIGHEST_BITS
    ends: int = 1

    def read(self, texts: Sequence[str]) -> Any:
        """The value, ``None`` where the texts cannot mean one."""
        if isinstance(self.default, bool):
            return _FLAGS.get(texts[0].lower()) if len(texts) == 1 else None
        numbers = [_number(text) for text in texts]
        if len(numbers) != self.ends or any(n is None or not self.low <= n <= self.high for n in numbers):
            return None
        values = [float(number) for number in numbers if number is not None]
        whole = not isinstance(self.default, float)
        if values != sorted(values) or (whole and any(value != int(value) for value in values)):
            return None
        typed_values = [int(value) if whole else value for value in values]
        return typed_values[0] if self.ends == 1 else tuple(typed_values)


FIELDS: Mapping[str, _Field] = {
    "sparsity": _Field(0.5, 0.0, HIGHEST_SPARSITY),
    "bits": _Field((4, 8), ends=2),
    "average_bits": _Field(4.0),
    "equal_bits": _Field(4),
    "activations": _Field(False),
    "activation_bits": _Field((8, 8), ends=2),
    "equal_activation_bits": _Field(8),
    "epochs": _Field(4.0, draft.FEWEST_EPOCHS, draft.MOST_EPOCHS),
    "seed": _Field(0, -draft.LARGEST_SEED, draft.LARGEST_SEED),
}
NAMES = ("method", *FIELDS)


class _Word(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    method: Text
    groups: NotRequired[dict[str, Any]]
    layers: NotRequired[dict[str, Any]]
    options: NotRequired[dict[str, Any]]
    extras: NotRequired[dict[str, Any]]


_WORD = TypeAdapter(_Word)


def word_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a budget that an old word carried.

    Raises:
        CompressionError: it is none.
    """
    word = typed(_WORD, raw, "the budget in the address")
    return {"version": 2, **word.get("extras", {}), **{name: value for name, value in word.items() if name != "extras"}}


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
        values[name] = _method(texts) if name == "method" else FIELDS[name].read(texts)
        if values[name] is None:
            values[name] = methods.default() if name == "method" else FIELDS[name].default
            lines.append(_fallback(name, texts, values[name]))
    draft.choose_method(values.get("method", draft.get().method))
    draft.put(_with(draft.get(), values))
    return lines


def _method(texts: Sequence[str]) -> str | None:
    """A method by its name or its label."""
    names = {label: name for name, each in methods.all_methods().items() for label in (name, each.info.label)}
    return names.get(texts[0]) if len(texts) == 1 else None


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
        elif control.optional:
            asks.setdefault(ask.field, control.default)
    training = {name: values[name] for name in ("epochs", "seed") if name in values}
    return budget.replace(asks=asks, **training)


def _fallback(name: str, texts: Sequence[str], value: Any) -> str:
    shown = plain.text(", ".join(texts)[:40]) or "nothing"
    used = methods.get(value).info.label if name == "method" else str(value).lower()
    if isinstance(value, tuple):
        used = " to ".join(map(str, value))
    return f"The address says {name} = {shown}, which cannot be: {used.removesuffix('.0')} is used."


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
