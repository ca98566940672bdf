"""What can be moved in a lesson, and how its value stands in the address: ``?lesson=2&bits=3&layer=conv1``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Slider:
    """A number from ``low`` to ``high``; whole where ``step`` is. ``half``: it shares its line with a neighbour."""

    key: str
    label: str
    low: float
    high: float
    step: float
    default: float
    form: str | None = None
    help: str = ""
    half: bool = False

    def parse(self, raw: str) -> float | None:
        """The value that an address names; ``None`` where there is none such."""
        try:
            value = float(raw)
        except ValueError:
            return None
        if not math.isfinite(value) or not self.low <= value <= self.high:
            return None
        return int(value) if self.whole and value == int(value) else None if self.whole else value

    @property
    def whole(self) -> bool:
        """Are its values whole numbers?"""
        return all(isinstance(bound, int) for bound in (self.low, self.high, self.step))

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"{self.low:g} to {self.high:g}"

    def write(self, value: Any) -> str:
        """The value as it stands in the address."""
        return f"{value:g}"


@dataclass(frozen=True)
class Choice:
    """One of several: ``options`` maps values to what people read. ``half``: it shares its line with a neighbour."""

    key: str
    label: str
    options: Mapping[str, str]
    default: str
    help: str = ""
    pills: bool = False
    half: bool = False

    def parse(self, raw: str) -> str | None:
        """The option that an address names; ``None`` where there is none such."""
        return raw if raw in self.options else None

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return ", ".join(self.options)

    def write(self, value: Any) -> str:
        """The value as it stands in the address."""
        return str(value)


@dataclass(frozen=True)
class Several:
    """Any number of ``options``, in their order."""

    key: str
    label: str
    options: Mapping[str, str]
    default: tuple[str, ...]
    help: str = ""
    half: bool = False

    def parse(self, raw: str) -> list[str] | None:
        """The options that an address names, with commas between; ``None`` where one of them is unknown."""
        named = [part for part in raw.split(",") if part and part != "none"]
        return [name for name in self.options if name in named] if set(named) <= set(self.options) else None

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return "any of " + ", ".join(self.options) + ", with commas between"

    def write(self, value: Any) -> str:
        """The value as it stands in the address."""
        return ",".join(value) or "none"


Field = Slider | Choice | Several
Values = Mapping[str, Any]


def defaults(fields: Sequence[Field]) -> dict[str, Any]:
    """The values a lesson begins with."""
    return {field.key: list(field.default) if isinstance(field, Several) else field.default for field in fields}
