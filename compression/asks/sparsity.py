"""The ask for sparsity: of whole units, or of single weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compression.asks.base import Ask, Control
from compression.bounds import check_share
from compression.errors import CompressionError

HIGHEST_SPARSITY = 0.98  # of a form's slider; a file may ask for more
UNITS, WEIGHTS = "units", "weights"
MACS, BOPS = "macs", "bops"
AMOUNTS = ("sparsity", MACS, BOPS)
"""Fields that say how much is removed, each in its way: setting one takes the others' place."""


@dataclass(frozen=True)
class Sparsity(Ask):
    """The share that is removed, in [0, 1): K = ⌊share·N⌋ of N prunable units, or round(share·N) of N weights."""

    field: str = "sparsity"
    default: float = 0.5
    help: str = "share in [0, 1) that is removed: of the prunable units, or of the single weights"
    option: str = "--sparsity"
    target: str = UNITS

    def __post_init__(self) -> None:
        bound = "group_bound" if self.target == UNITS else "layer_bound"
        object.__setattr__(self, bound, "sparsity")

    def value(self, asks: Mapping[str, Any]) -> Any:
        """The share; ``None`` where one of the fields that exclude it is set instead.

        Raises:
            CompressionError: a value outside [0, 1).
        """
        if asks.get(self.field) is None:
            return None if any(asks.get(other) is not None for other in self.excludes) else self.default
        return self.accept(asks[self.field])

    def accept(self, value: Any) -> float:
        check_share(value, self.field)
        return float(value)

    def control(self) -> Control:
        label = "Channels removed" if self.target == UNITS else "Weights set to zero"
        return Control("slider", label, 0.0, HIGHEST_SPARSITY, 0.01, self.default)

    def bound_control(self, value: Any) -> Control:
        kind: Literal["range", "slider"] = "range" if self.target == UNITS else "slider"
        default = (0.0, HIGHEST_SPARSITY) if self.target == UNITS else value
        return Control(kind, "sparsity", 0.0, HIGHEST_SPARSITY, 0.01, default)

    def words(self, value: Any) -> str:
        if value is None:
            return ""
        what = "units removed" if self.target == UNITS else "weights at zero"
        return f"{100 * value:.4g} % of the {what}" if value else f"no {what}"

    def caveat(self) -> str:
        if self.target == UNITS:
            return ""
        return "The zeros are unstructured: they make the packed file smaller, not the arithmetic. No speed is claimed."

    def size_share(self, value: Any) -> float:
        """A layer whose inputs and outputs both lose the share s of their channels keeps about (1 - s)²."""
        return 1.0 if value is None else float((1 - value) ** (2 if self.target == UNITS else 1))


@dataclass(frozen=True)
class CostSaved(Ask):
    """The share of the dense network's MACs or BOPs that is saved, in place of a share of the units; ``None``: no.

    Units are removed, least score first, until what remains is at that or just below.
    """

    default: float | None = None
    help: str = ""

    def accept(self, value: Any) -> float | None:
        if value is None:
            return None
        check_share(value, self.field)
        return float(value)

    def value(self, asks: Mapping[str, Any]) -> float | None:
        """The share.

        Raises:
            CompressionError: a value outside [0, 1), or another ask that says how much is removed.
        """
        value = self.accept(asks.get(self.field))
        both = [field for field in self.excludes if asks.get(field) is not None]
        if value is not None and both:
            raise CompressionError(f"{self.field} and {both[0]} each say how much is removed: give one of them")
        return value

    def control(self) -> Control:
        high, step, start = (HIGHEST_SPARSITY, 0.01, 0.5) if self.field == MACS else (0.999, 0.001, 0.95)
        return Control("slider", f"{_SHORT[self.field]} saved", 0.0, high, step, start, optional=True)

    def words(self, value: Any) -> str:
        return "" if value is None else f"{100 * value:.4g} % of the {_SHORT[self.field]} saved"

    def size_share(self, value: Any) -> float:
        return 1.0 if value is None else 1.0 - float(value)


_SHORT = {MACS: "MACs", BOPS: "BOPs"}
UNITS_REMOVED = Sparsity(excludes=(MACS, BOPS))
MACS_SAVED = CostSaved(
    MACS,
    help="remove by MACs: the share in [0, 1) of multiply-accumulates that is saved, in place of a share of the units",
    option="--macs",
    excludes=("sparsity", BOPS),
)
BOPS_SAVED = CostSaved(
    BOPS,
    help="remove by BOPs: the share in [0, 1) of the dense fp32 network's bit operations that is saved, by fewer units "
    "and fewer bits",
    option="--bops",
    excludes=("sparsity", MACS),
)
REMOVAL = (UNITS_REMOVED, MACS_SAVED, BOPS_SAVED)
"""The asks of a method whose removal may be counted in units, MACs or BOPs."""


def in_place_of_others(asks: Mapping[str, Any], field: str) -> dict[str, Any]:
    """``asks`` without the other :data:`AMOUNTS`, where ``field`` is one of them and about to be set."""
    return {name: value for name, value in asks.items() if field not in AMOUNTS or name not in AMOUNTS}
