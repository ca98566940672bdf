"""The ask for sparsity: of whole units, or of single weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from compression.asks.base import Ask, Control
from compression.bounds import check_share

HIGHEST_SPARSITY = 0.98  # of a form's slider; a file may ask for more
UNITS, WEIGHTS = "units", "weights"


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
        return f"{100 * value:.4g} % of the {'units removed' if self.target == UNITS else 'weights at zero'}"

    def caveat(self) -> str:
        if self.target == UNITS:
            return ""
        return "The zeros are unstructured: they make the packed file smaller, not the arithmetic. No speed is claimed."

    def size_share(self, value: Any) -> float:
        """A layer whose inputs and outputs both lose the share s of their channels keeps about (1 - s)²."""
        return float((1 - value) ** (2 if self.target == UNITS else 1))
