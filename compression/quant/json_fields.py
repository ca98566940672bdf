"""Plain JSON values read one by one, each refused by name where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from compression.errors import CompressionError
from compression.reading import is_number, short

NEEDED: Any = object()


class Fields:
    """One JSON object that is taken apart field by field; what is left over at the end is refused.

    Every reader takes ``absent``, the value of a field that is not there; without it such a field is refused.

    Raises:
        CompressionError: naming the place and the field.
    """

    def __init__(self, raw: Any, where: str) -> None:
        if not isinstance(raw, Mapping):
            raise CompressionError(f"{where} must be an object, not {short(raw)}")
        self.raw, self.where = dict(raw), where

    def take(self, name: str, absent: Any = NEEDED) -> Any:
        """The value of a field, whatever it is."""
        if name not in self.raw and absent is NEEDED:
            raise CompressionError(f"{self.where}.{name} is missing")
        return self.raw.pop(name, absent)

    def ignore(self, *names: str) -> None:
        """Let these fields be there, whatever they hold."""
        for name in names:
            self.raw.pop(name, None)

    def absent(self, name: str) -> bool:
        """Whether a field is not there, or null; it is taken then."""
        if self.raw.get(name) is not None:
            return False
        self.raw.pop(name, None)
        return True

    def number(self, name: str, low: float, high: float = math.inf, absent: Any = NEEDED) -> float:
        """A finite number in ``low``..``high``."""
        value = self.take(name, absent)
        if not is_number(value) or not low <= value <= high:
            self._refuse(name, f"a number {_range(low, high)}", value)
        return float(value)

    def numbers(self, name: str, low: float) -> tuple[float, ...]:
        """A list of finite numbers of at least ``low``."""
        values = self.rows(name)
        if not values or not all(is_number(value) and value >= low for value in values):
            raise CompressionError(f"{self.where}.{name} must be a list of numbers {_range(low, math.inf)}")
        return tuple(float(value) for value in values)

    def whole(self, name: str, low: int, high: float = math.inf) -> int:
        """A whole number in ``low``..``high``."""
        value = self.take(name)
        if not isinstance(value, int) or not is_number(value) or not low <= value <= high:
            self._refuse(name, f"a whole number {_range(low, high)}", value)
        return int(value)

    def word(self, name: str, known: Collection[str] = (), absent: Any = NEEDED) -> str:
        """A word, one of ``known`` where those are given."""
        value = self.take(name, absent)
        if not isinstance(value, str) or (known and value not in known):
            self._refuse(name, f"one of {', '.join(known)}" if known else "a word", value)
        return str(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            self._refuse(name, "true or false", value)
        return bool(value)

    def rows(self, name: str, absent: Any = NEEDED) -> Sequence[Any]:
        """A list."""
        value = self.take(name, absent)
        if not isinstance(value, (list, tuple)):
            self._refuse(name, "a list", value)
        return list(value)

    def finish(self) -> None:
        """Refuse what has not been taken."""
        if self.raw:
            raise CompressionError(f"{self.where}: unknown field {short(next(iter(self.raw)))}")

    def _refuse(self, name: str, wanted: str, value: Any) -> None:
        raise CompressionError(f"{self.where}.{name} must be {wanted}, not {short(value)}")


def _range(low: float, high: float) -> str:
    return f"of at least {low:g}" if math.isinf(high) else f"in {low:g}..{high:g}"
