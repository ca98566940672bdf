"""What a method can be told beyond the common fields of a budget: a table that checks, lists and explains itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.reading import cut, is_number, short


@dataclass(frozen=True)
class Option:
    """One entry of ``options`` in a budget.

    ``default`` also tells the kind of value: a whole number, a number, a word, true or false, a mapping, or (a tuple) a
    list of names. ``choices`` are the values allowed, ``low`` and ``high`` the range of a number; ``mapping`` allows
    numbers by name in place of one of the choices; ``help`` says in a sentence what it does.
    """

    name: str
    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    mapping: bool = False

    @property
    def simple(self) -> bool:
        """Whether a value is a single word or number, so that one field of a form can hold it."""
        return not isinstance(self.default, (Mapping, tuple))

    def check(self, value: Any, method: str) -> None:
        """Refuse a value of the wrong kind or out of range.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        if self.mapping and isinstance(value, Mapping):
            self._check_numbers(value, method)
        elif self.choices:
            if not any(value == choice and type(value) is type(choice) for choice in self.choices):
                known = ", ".join(map(_spelled, self.choices)) + (", or numbers by name" if self.mapping else "")
                raise CompressionError(f"{method}: {self.name} must be one of {known}, not {_spelled(value)}")
        elif isinstance(self.default, Mapping):
            if not isinstance(value, Mapping):
                raise CompressionError(f"{method}: {self.name} must map names to numbers, not {short(value)}")
        elif isinstance(self.default, tuple):
            if isinstance(value, str) or not _all_words(value):
                raise CompressionError(f"{method}: {self.name} must be a list of names, not {short(value)}")
        elif not self._number(value) or not self.low <= value <= self.high:
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            raise CompressionError(f"{method}: {self.name} must be {kind} {self._range()}, not {short(value)}")

    def _check_numbers(self, value: Mapping[Any, Any], method: str) -> None:
        for name, number in value.items():
            if not is_number(number) or number <= 0:
                raise CompressionError(
                    f"{method}: {self.name}.{cut(str(name))} must be a positive number, not {short(number)}"
                )

    def _number(self, value: Any) -> bool:
        return is_number(value) and (isinstance(value, int) or not isinstance(self.default, int))

    def _range(self) -> str:
        return f"in {self.low:g}..{self.high:g}" if math.isfinite(self.high) else f"of at least {self.low:g}"


def check(asked: Mapping[str, Any], table: Sequence[Option], method: str) -> None:
    """Refuse options that are not in ``table``, and values they cannot have.

    Raises:
        CompressionError: naming the option and what there is.
    """
    known = {option.name: option for option in table}
    for name, value in asked.items():
        if name not in known:
            raise CompressionError(f"{method}: unknown option {short(name)}; known: {', '.join(known)}")
        known[name].check(value, method)


def resolved(budget: Budget, table: Sequence[Option], method: str) -> dict[str, Any]:
    """Every option of ``table`` with its value in the budget, or its default.

    Raises:
        CompressionError: see :func:`check`.
    """
    check(budget.options, table, method)
    return {option.name: budget.options.get(option.name, option.default) for option in table}


def _all_words(value: Any) -> bool:
    return isinstance(value, Collection) and all(isinstance(word, str) for word in value)


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else cut(value) if isinstance(value, str) else short(value)
