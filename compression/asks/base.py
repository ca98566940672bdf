"""What every ask has, and what a form draws for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compression.errors import CompressionError

Bounds = Mapping[str, Mapping[str, Any]]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Control:
    """What a form draws for an ask: a slider with one handle, or with two (``range``).

    ``optional``: a switch turns the ask on, and without it the value is ``None``. ``format`` is printf's.
    """

    kind: Literal["slider", "range"]
    label: str
    low: float
    high: float
    step: float
    default: Any
    format: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Ask:
    """One thing that a method reads from a budget.

    ``field``: its key in ``Budget.asks``; ``option``: its option on the command line, empty where a file sets it;
    ``default``: its value in a budget that does not mention it; ``help``: a sentence for forms and ``--help``;
    ``layer_bound``, ``group_bound``: the field that bounds it for a single layer or group, empty where none does;
    ``excludes``: fields that say the same in another way, of which at most one is set.
    """

    field: str
    default: Any
    help: str
    option: str = ""
    layer_bound: str = ""
    group_bound: str = ""
    excludes: tuple[str, ...] = ()

    def value(self, asks: Mapping[str, Any]) -> Any:
        """The value in a budget's ``asks``: of this field, else converted from a related one, else the default.

        Raises:
            CompressionError: a value that this ask cannot have.
        """
        if self.field in asks:
            return self.accept(asks[self.field])
        related = self.convert(asks)
        return self.default if related is None else related

    def accept(self, value: Any) -> Any:
        """A value as a file, a form or the command line gives it, checked and in the type of this ask.

        Raises:
            CompressionError: naming the field and what it may be.
        """
        return value

    def convert(self, asks: Mapping[str, Any]) -> Any:
        """The value that follows from the fields of other methods, or ``None``."""
        return None

    def check_bounds(self, asks: Mapping[str, Any], layers: Bounds) -> None:
        """Refuse bounds of single layers that mean nothing for this value.

        Raises:
            CompressionError: naming the layer.
        """
        bounded = [layer for layer, entry in layers.items() if entry.get(self.layer_bound) is not None]
        if bounded and self.value(asks) is None:
            raise CompressionError(
                f"layers.{bounded[0]}.{self.layer_bound}: set {self.field} too, so that activations are quantized"
            )

    def nearest(self, asks: Mapping[str, Any]) -> Any:
        """As :meth:`value`, of a budget of another method, which may ask for what this ask cannot have."""
        return self.value(asks)

    def nearest_bound(self, bound: Any) -> Any:
        """A bound of a single layer or group in a budget of another method, as near as this ask can have it."""
        return bound

    def control(self) -> Control | None:
        """What a form draws; ``None`` for what only a file or the command line sets."""
        return None

    def bound_control(self, value: Any) -> Control | None:
        """What a form draws to bound a layer where the budget asks for ``value``; its default holds without a bound."""
        return None

    def words(self, value: Any) -> str:
        """What is asked, as part of a sentence: ``50 % of the units removed``; empty for nothing."""
        return ""

    def caveat(self) -> str:
        """What not to expect of a network compressed with this ask; empty where nothing needs to be said."""
        return ""

    def size_share(self, value: Any) -> float:
        """About which share of the weights' bytes this value leaves: good for putting budgets in order of size."""
        return 1.0
