"""Classification: one of several classes for each image or sentence, measured by the share that is right."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from compression.data.types import CLASSIFICATION
from compression.tasks.base import Evaluation, Scorer, Task
from compression.tasks.metric import ACCURACY


class Classification(Task):
    """Answers are logits [B, classes], targets class indices int64 [B]."""

    name = CLASSIFICATION
    metric = ACCURACY

    def answer_shape(self, x: torch.Tensor, outputs: int) -> tuple[int, ...]:
        """[B, classes]."""
        return len(x), outputs

    def loss(self, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        return F.cross_entropy(answer, target)

    def distillation(self, answer: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """See :func:`softened_divergence`.

        T² keeps gradients as large as without softening (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2).
        """
        return softened_divergence(answer, teacher, temperature)

    def batch_score(self, answer: torch.Tensor, target: torch.Tensor) -> float:
        """The share of the batch that is right."""
        return int((answer.argmax(1) == target).sum()) / len(target)

    def same(self, answer: torch.Tensor, other: torch.Tensor) -> float:
        """The share of examples with the same class."""
        return float((answer.argmax(1) == other.argmax(1)).float().mean())

    def scorer(self) -> Scorer:
        """Counts answers by the true class."""
        return _Counts(len(self.data.classes))


def softened_divergence(answer: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """``T²`` KL(teacher ‖ student) of logits [N, classes], both softened by T, a mean over N."""
    return temperature**2 * F.kl_div(
        F.log_softmax(answer / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


class _Counts(Scorer):
    """``details["confusion"][truth][answer]`` counts examples."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.confusion, self.loss, self.count = torch.zeros(classes * classes, dtype=torch.long), 0.0, 0

    def add(self, answer: torch.Tensor, target: torch.Tensor) -> None:
        self.loss += float(F.cross_entropy(answer, target, reduction="sum"))
        pairs = target * self.classes + answer.argmax(1)
        self.confusion += torch.bincount(pairs, minlength=self.classes**2).cpu()
        self.count += len(target)

    def result(self) -> Evaluation:
        table = self.confusion.view(self.classes, self.classes)
        accuracy, largest = int(table.trace()) / self.count, int(table.sum(1).max()) / self.count
        # chance: no better than always answering the largest class, two standard errors of that share allowed
        is_chance = accuracy <= largest + 2 * math.sqrt(largest * (1 - largest) / self.count)
        return Evaluation(accuracy, self.loss / self.count, {"confusion": table.tolist()}, is_chance)
