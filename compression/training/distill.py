"""Knowledge distillation: the compressed network learns the dense one's answers along with the labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from compression.graph.copies import deep_copy
from compression.training.recipe import Recipe, logits

Goal = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""What training minimises: (logits fp32 [B, classes], images [B, C, H, W], labels int64 [B]) → scalar."""


class Teacher:
    """A frozen copy of a trained network, in evaluation mode, that answers batches without keeping a graph."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = recipe.prepare_model(deep_copy(model)).eval().requires_grad_(False)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [B, classes], fp32."""
        with torch.no_grad(), self.recipe.autocast():
            return logits(self.model(self.recipe.prepare(x))).float()

    def goal(self, weight: float, temperature: float) -> Goal:
        """The training loss that mixes this teacher's answers with the labels."""

        def loss(answer: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return distillation_loss(answer, self(x), y, weight, temperature)

        return loss


def distillation_loss(
    answer: torch.Tensor, target: torch.Tensor, y: torch.Tensor, weight: float, temperature: float
) -> torch.Tensor:
    """``(1 - weight)`` cross-entropy with the labels + ``weight T²`` KL(teacher ‖ student), both softened by T.

    ``answer`` and ``target`` are the student's and the teacher's logits [B, classes]; T² keeps the gradients of the
    soft part as large as without softening (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2).
    """
    soft = F.kl_div(
        F.log_softmax(answer / temperature, dim=1),
        F.log_softmax(target / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = F.cross_entropy(answer, y) if weight < 1 else answer.new_zeros(())
    return (1 - weight) * hard + weight * temperature**2 * soft
