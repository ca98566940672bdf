"""What makes a unit matter: criteria on its variables x and their update direction h (GETA, section 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compression.errors import CompressionError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class UnitSums:
    """Per unit, over all its variables, fp32 [N]: <x, x>, <x, h>, <h, h> and the number of variables."""

    xx: torch.Tensor
    xh: torch.Tensor
    hh: torch.Tensor
    variables: torch.Tensor


def _cosine(sums: UnitSums) -> torch.Tensor:
    return sums.xh / (sums.xx.sqrt() * sums.hh.sqrt()).clamp(min=1e-16) + 1


RMS, MOVEMENT = "rms_magnitude", "movement"
CRITERIA: dict[str, Callable[[UnitSums], torch.Tensor]] = {
    "magnitude": lambda sums: sums.xx.sqrt(),
    "avg_magnitude": lambda sums: sums.xx.sqrt() / sums.variables,
    "rms_magnitude": lambda sums: (sums.xx / sums.variables).sqrt(),
    "cosine_similarity": _cosine,
    "taylor_first_order": lambda sums: sums.xh.abs(),
    "taylor_second_order": lambda sums: 0.5 * sums.xh.square(),
    MOVEMENT: lambda sums: -sums.xh,
}
WITHOUT_GRADIENTS = frozenset({"magnitude", "avg_magnitude", RMS})
DEFAULT_WEIGHTS: Mapping[str, float] = {name: 0.2 for name in CRITERIA if name not in (RMS, MOVEMENT)}
"""The five criteria of GETA, equally weighted."""
SIGNED = frozenset({MOVEMENT})
"""Criteria that may be below 0: movement is positive where a step along -h takes the unit away from zero."""


def check_criteria(weights: Mapping[str, float]) -> None:
    """Refuse unknown criteria.

    Raises:
        CompressionError: naming the criterion and the known ones.
    """
    for name in weights:
        if name not in CRITERIA:
            raise CompressionError(f"unknown saliency criterion {name!r}; known: {', '.join(CRITERIA)}")
