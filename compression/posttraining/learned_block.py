"""BRECQ's rounding (Li et al., arXiv 2102.05426, section 3.3): all weights of a block are learned together.

The rounding variables are those of :mod:`compression.posttraining.learned`. What is compared are the answers of the
block, so that an error of one layer may cancel that of another, and activation functions count. Left out of the paper:
squared gradients of the loss as weights of the squared differences (its eq. 10), which would need labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compression.posttraining.block_problem import BlockProblem, Values
from compression.posttraining.learned import FREE, RoundingVariable, decided, power_at, undecided
from compression.posttraining.options import ITERATIONS, RATE, STRENGTH


@dataclass(frozen=True)
class LearnedBlock:
    """The solver of blocks: ``iterations`` steps on a few examples each.

    ``strength``: λ, what an undecided weight costs, in units of the mean error that rounding one weight to nearest adds
    to the block's answers.
    """

    iterations: int = ITERATIONS
    rate: float = RATE
    strength: float = STRENGTH

    def __call__(self, problem: BlockProblem) -> Values:
        """The values and survivors of every layer, learned, or those of nearest rounding where they err less."""
        goals = [layer.weights.float() for layer in problem.layers]
        steps = [layer.steps[..., None].float() for layer in problem.layers]
        survives = [
            layer.survivors(layer.weights.square() * layer.inputs.gram.diagonal(dim1=-2, dim2=-1)[:, None, :])
            for layer in problem.layers
        ]
        nearest = [layer.nearest(layer.weights) * mask for layer, mask in zip(problem.layers, survives, strict=True)]
        with torch.enable_grad():
            variables = [
                RoundingVariable(goal, step, layer.limits(goal), mask)
                for goal, step, layer, mask in zip(goals, steps, problem.layers, survives, strict=True)
            ]
            self._learn(problem, variables, self._unit(problem, nearest, goals))
        learned = [
            (each.final() / step).round().to(layer.weights) * layer.steps[..., None]
            for each, step, layer in zip(variables, steps, problem.layers, strict=True)
        ]
        # Learning may end in a worse place than it began
        errors = [problem.mean_error([each.float() for each in values]) for values in (learned, nearest)]
        return list(zip(learned if errors[0] <= errors[1] else nearest, survives, strict=True))

    def _unit(self, problem: BlockProblem, nearest: Sequence[torch.Tensor], goals: Sequence[torch.Tensor]) -> float:
        """What nearest rounding of a weight adds to the error: it makes λ mean the same in every block."""
        added = problem.mean_error([each.float() for each in nearest], goals)
        return added / sum(goal.numel() for goal in goals) or 1.0

    def _learn(self, problem: BlockProblem, variables: Sequence[RoundingVariable], unit: float) -> None:
        alphas = [variable.alpha for variable in variables]
        optimizer = torch.optim.Adam(alphas, lr=self.rate)
        order: list[int] = []
        for iteration in range(self.iterations):
            problem.check()
            # Every batch once, in a random order, then again in another
            order = order or torch.randperm(len(problem.batches), generator=problem.generator).tolist()
            batch = problem.batches[order.pop()]
            soft = [decided(alpha) for alpha in alphas]
            with problem.computing_with([v.weights(h) for v, h in zip(variables, soft, strict=True)]):
                loss = problem.error(problem.answer(batch) - batch.target) / unit
            progress = iteration / self.iterations
            if progress >= FREE:
                loss = loss + self.strength * sum(undecided(h, power_at(progress)) for h in soft)
            # Of the rounding alone: the block's other parameters have no part in it
            gradients = torch.autograd.grad(loss, alphas, allow_unused=True, materialize_grads=True)
            for alpha, gradient in zip(alphas, gradients, strict=True):
                alpha.grad = gradient
            optimizer.step()
