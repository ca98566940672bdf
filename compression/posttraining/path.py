"""One layer by path following: which weights are zero, in what order, and the values that result."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compression.posttraining.follow import Direction, factor, feedback, follow
from compression.posttraining.problems import LayerProblem


@dataclass(frozen=True)
class PathRounding:
    """Path following with these settings, as the solver of a layer.

    ``by_energy``: the inputs with the largest Σx² first; ``stochastic``: to one of the two values beside, at random.
    """

    direction: Direction
    damping: float = 0.0
    by_energy: bool = False
    stochastic: bool = False

    def __call__(self, problem: LayerProblem) -> tuple[torch.Tensor, torch.Tensor]:
        """The values [groups, N, d], and which weights survive."""
        gram = problem.inputs.gram
        squares = gram.diagonal(dim1=-2, dim2=-1)
        survives = self._survivors(problem)
        # The order of the path, the same for all neurons of a group
        order = (
            squares.argsort(stable=True, dim=-1, descending=True)
            if self.by_energy
            else torch.arange(gram.shape[-1], device=gram.device).expand_as(squares)
        )
        along = order[:, None, :].expand_as(problem.weights)
        ordered = gram.gather(-1, order[:, None, :].expand_as(gram)).gather(-2, order[..., None].expand_as(gram))
        back, needed = feedback(ordered, self.direction, self.damping)
        if needed > self.damping:
            problem.notes.append(f"its inputs depend on each other: damping {needed:g} instead of {self.damping:g}")
        alive = survives.gather(-1, along)
        values = follow(problem.weights.gather(-1, along), back, lambda z, t: self._rounded(problem, z) * alive[..., t])
        return torch.empty_like(values).scatter_(-1, along, values), survives

    def _survivors(self, problem: LayerProblem) -> torch.Tensor:
        """All but the weights that matter least, exactly so many: bool [groups, N, d].

        A removed weight costs w² G_tt; where all others can make good for it, w² / [G⁻¹]_tt (optimal brain surgeon,
        Hassibi & Stork 1993).
        """
        gram = problem.inputs.gram
        if not problem.pruned:
            return torch.ones_like(problem.weights, dtype=torch.bool)
        if self.direction == "plain":
            worth = gram.diagonal(dim1=-2, dim2=-1)
        else:
            upper, _ = factor(gram, self.damping)
            inverse = torch.cholesky_inverse(upper.flip(-1, -2)).flip(-1, -2)
            worth = 1 / inverse.diagonal(dim1=-2, dim2=-1)
        return problem.survivors(problem.weights.square() * worth[:, None, :])

    def _rounded(self, problem: LayerProblem, z: torch.Tensor) -> torch.Tensor:
        if not self.stochastic:
            return problem.nearest(z)
        drawn = torch.rand(z.shape, generator=problem.generator, dtype=torch.float64).to(z)
        codes = (z / problem.steps + drawn).floor()
        return codes.clamp(-problem.levels, problem.levels) * problem.steps
