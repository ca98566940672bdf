"""What a method can be told beyond the common fields of a budget: a table that checks, lists and explains itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compression.errors import CompressionError


@dataclass(frozen=True)
class Option:
    """One entry of ``options`` in a budget.

    ``default`` also tells the kind of value: a whole number, a number, a word or a mapping. ``choices`` are the words
    allowed, ``low`` and ``high`` the range of a number; ``help`` says in a sentence what it does.
    """

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def check(self, value: Any, method: str) -> None:
        """Refuse a value of the wrong kind or out of range.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        if self.choices:
            if value not in self.choices:
                raise CompressionError(f"{method}: {self.name} must be one of {', '.join(self.choices)}, not {value!r}")
        elif isinstance(self.default, Mapping):
            if not isinstance(value, Mapping):
                raise CompressionError(f"{method}: {self.name} must map names to numbers, not {value!r}")
        elif not self._number(value) or not self.low <= value <= self.high:
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            raise CompressionError(f"{method}: {self.name} must be {kind} {self._range()}, not {value!r}")

    def _number(self, value: Any) -> bool:
        allowed = int if isinstance(self.default, int) else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool) and math.isfinite(value)

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
            raise CompressionError(f"{method}: unknown option {name!r}; known: {', '.join(known)}")
        known[name].check(value, method)
