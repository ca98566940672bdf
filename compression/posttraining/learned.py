"""AdaRound (Nagel et al., arXiv 2004.10568): whether each weight is rounded up or down is learnt.

ŵ = Δ clip(⌊w/Δ⌋ + h(α), -Q, Q) with h(α) = clip(1.2 σ(α) - 0.1, 0, 1) (eq. 22 and 23 there), starting at nearest
rounding's fraction. With the Gram matrix G of the layer's inputs, |X ŵ - X w|² = tr((ŵ - w) G (ŵ - w)ᵀ), so that no
activation is needed, whatever the number of inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compression.posttraining.follow import neuron_errors
from compression.posttraining.options import ITERATIONS, RATE, STRENGTH
from compression.posttraining.problems import LayerProblem, Limits

STRETCH, SHIFT = 1.2, -0.1  # ζ - γ and γ: h reaches 0 and 1
FREE = 0.2  # share of the iterations without the term that decides
FIRST_POWER, LAST_POWER = 20.0, 2.0  # β falls between them
NEVER_SURE = 0.01  # of the fraction at the start: beyond the last level there is none


def decided(variable: torch.Tensor) -> torch.Tensor:
    """h(α): 0 for down to 1 for up."""
    return (STRETCH * torch.sigmoid(variable) + SHIFT).clamp(0, 1)


def power_at(progress: float) -> float:
    """β of the deciding term after a share of the iterations: it falls linearly once the term is there."""
    return LAST_POWER + (FIRST_POWER - LAST_POWER) * max(0.0, 1 - (progress - FREE) / (1 - FREE))


def undecided(h: torch.Tensor, power: float) -> torch.Tensor:
    """Σ 1 - |2h - 1|^β (eq. 24): 0 where every weight is decided."""
    return (1 - (2 * h - 1).abs().pow(power)).sum()


class RoundingVariable:
    """α of a layer's weights, and the weights that it stands for."""

    def __init__(self, weights: torch.Tensor, steps: torch.Tensor, limits: Limits, survives: torch.Tensor) -> None:
        """``weights``, both ``limits`` of codes and ``survives`` [groups, N, d], ``steps`` [groups, N, 1]."""
        scaled = weights / steps
        self.floor, self.steps, self.limits, self.survives = scaled.floor(), steps, limits, survives
        fraction = (scaled - self.floor).clamp(NEVER_SURE, 1 - NEVER_SURE)
        self.alpha = (-torch.log(STRETCH / (fraction - SHIFT) - 1)).requires_grad_()

    def weights(self, h: torch.Tensor) -> torch.Tensor:
        """ŵ for h between 0 and 1."""
        return (self.floor + h).clamp(*self.limits) * self.steps * self.survives

    def final(self) -> torch.Tensor:
        """ŵ with every weight decided: up where α ≥ 0."""
        return self.weights((self.alpha.detach() >= 0).to(self.floor))


@dataclass(frozen=True)
class LearnedRounding:
    """AdaRound of a layer by itself, as its solver.

    ``strength``: λ, what an undecided weight costs, in units of the mean output error of a weight rounded to nearest.
    """

    iterations: int = ITERATIONS
    rate: float = RATE
    strength: float = STRENGTH

    def __call__(self, problem: LayerProblem) -> tuple[torch.Tensor, torch.Tensor]:
        """The values [groups, N, d], and which weights survive."""
        gram = problem.inputs.gram.float()
        squares = problem.inputs.gram.diagonal(dim1=-2, dim2=-1)[:, None, :]
        survives = problem.survivors(problem.weights.square() * squares)
        goal, steps = problem.weights.float(), problem.steps[..., None].float()
        with torch.enable_grad():
            variable = RoundingVariable(goal, steps, problem.limits(goal), survives)
            self._learn(variable, goal, gram)
        codes = (variable.final() / steps).round().to(problem.weights)
        learned = codes * problem.steps[..., None]
        # Of each neuron the better one: learning may end in a worse place than it began
        nearest = problem.nearest(problem.weights) * survives
        errors = [neuron_errors(problem.weights - each, problem.inputs.gram) for each in (learned, nearest)]
        return torch.where((errors[0] <= errors[1])[..., None], learned, nearest), survives

    def _learn(self, variable: RoundingVariable, goal: torch.Tensor, gram: torch.Tensor) -> None:
        # The mean error of nearest rounding makes λ mean the same in every layer
        nearest = variable.weights((decided(variable.alpha.detach()) >= 0.5).to(goal)) - goal
        unit = float(neuron_errors(nearest, gram).sum()) / goal.numel() or 1.0
        optimizer = torch.optim.Adam([variable.alpha], lr=self.rate)
        for iteration in range(self.iterations):
            progress = iteration / self.iterations
            h = decided(variable.alpha)
            difference = variable.weights(h) - goal
            loss = neuron_errors(difference, gram).sum() / unit
            if progress >= FREE:
                loss = loss + self.strength * undecided(h, power_at(progress))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
