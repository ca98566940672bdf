"""What three ways of rounding leave of a neuron's output, weight by weight along the path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compression.posttraining.follow import feedback, follow, neuron_errors

Floats = NDArray[np.float64]
NEAREST, PLAIN, ORTHOGONAL = "nearest", "plain", "orthogonal"
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Path:
    """One neuron: the values that its weights get, and the output error made so far after 0, 1, … d weights.

    ``share``: |u|² / |X w|² [d + 1]; ``places``: u on the two directions of the outputs in which inputs vary most, in
    units of |X w| [2, d + 1]. ``layer``: what the error is for all neurons of the layer, relative to their outputs.
    """

    values: Floats
    share: Floats
    places: Floats
    layer: float


def paths(weights: torch.Tensor, gram: torch.Tensor, levels: int, neuron: int) -> dict[str, Path]:
    """The three ways, for neurons [N, d] whose inputs have the Gram matrix [d, d], with codes -levels..levels."""
    steps = weights.abs().amax(-1, keepdim=True) / levels
    steps = torch.where(steps > 0, steps, 1.0)

    def rounded(z: torch.Tensor) -> torch.Tensor:
        return (z / steps).round().clamp(-levels, levels) * steps

    grids = {NEAREST: rounded(weights)}
    for name, damping in ((PLAIN, 0.0), (ORTHOGONAL, DAMPING)):
        back, _ = feedback(gram[None], name, damping)  # type: ignore[arg-type]
        grids[name] = follow(weights[None], back, lambda z, t: rounded(z.mT).mT)[0]
    return {name: _path(weights, grid, gram, neuron) for name, grid in grids.items()}


def _path(weights: torch.Tensor, grid: torch.Tensor, gram: torch.Tensor, neuron: int) -> Path:
    difference = weights - grid
    own = difference[neuron]
    whole = float(neuron_errors(weights[neuron], gram)) or 1.0
    # After t weights u = Σ_{s<t} δ_s x_s, so |u|² is the sum of the upper left corner of δ_s G_sr δ_r
    terms = own[:, None] * gram * own[None]
    corner = terms.cumsum(0).cumsum(1).diagonal()
    # With G = V Λ Vᵀ the coordinate of u along the k-th direction of the outputs is √Λ_k V_kᵀ δ
    strengths, directions = torch.linalg.eigh(gram)
    along = strengths[-2:].clamp_min(0).sqrt()[:, None] * (directions[:, -2:].mT * own).cumsum(1)
    start = torch.zeros(2, 1, dtype=along.dtype)
    return Path(
        grid[neuron].numpy(),
        torch.cat([start[0], corner / whole]).numpy(),
        (torch.cat([start, along], 1) / whole**0.5).numpy(),
        float(neuron_errors(difference, gram).sum() / neuron_errors(weights, gram).sum()),
    )
