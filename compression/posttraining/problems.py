"""A layer that is to be brought onto its grid, what brings it there, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from compression.posttraining.grams import LayerInputs
from compression.quant.tables import survivors

Limits = tuple[torch.Tensor, torch.Tensor]
"""The lowest and the highest code of each weight."""


@dataclass
class LayerProblem:
    """One layer to be brought onto its grid.

    ``weights``: what to come near to, fp64 [groups, N, d]; ``inputs``: what flows into it; ``steps``: Δ of each neuron
    [groups, N]; ``levels``: Q, of codes -Q..Q; ``pruned``: how many weights are to be 0; ``generator``: of this layer
    and the seed of the run, on the CPU. What a method had to change goes into ``notes``. ``mask``: which weights
    survive (bool [groups, N, d]), where that is not the method's to choose. ``lowest``: the least magnitude of a
    survivor's code; with 1 none becomes 0.
    """

    name: str
    weights: torch.Tensor
    inputs: LayerInputs
    steps: torch.Tensor
    levels: int
    pruned: int
    generator: torch.Generator
    notes: list[str]
    mask: torch.Tensor | None = None
    lowest: int = 0

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """The nearest values of the grid for survivors, of values [groups, N] or [groups, N, d]."""
        steps = self.steps if values.dim() == 2 else self.steps[..., None]
        low, high = self.limits(values)
        return (values / steps).round().clamp(low, high) * steps

    def limits(self, values: torch.Tensor) -> Limits:
        """The lowest and the highest code of a survivor with this value, elementwise; it never changes its sign."""
        last = torch.full_like(values, self.levels)
        if not self.lowest:
            return -last, last
        first = torch.full_like(values, self.lowest)
        return torch.where(values > 0, first, -last), torch.where(values < 0, -first, last)

    def survivors(self, worth: torch.Tensor) -> torch.Tensor:
        """Which weights survive: all but the ``pruned`` of least magnitude of ``worth``, unless the mask is given."""
        return survivors(worth, self.pruned) if self.mask is None else self.mask


Solve = Callable[[LayerProblem], tuple[torch.Tensor, torch.Tensor]]
"""Gives the values [groups, N, d] and which weights survive (bool, of the same shape)."""


@dataclass(frozen=True)
class LayerOutcome:
    """What became of a layer: Σ|Δ x|² / Σ|W x|² over ``rows`` rows, Δ the difference to the weights that it was to come
    near to, with ``nearest`` rounding on the same grid and with the method (``error``); ``notes``: what was changed.
    """

    nearest: float
    error: float
    rows: int
    notes: tuple[str, ...] = ()
