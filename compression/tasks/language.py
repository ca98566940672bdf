"""Language: the next token of a text, measured by the perplexity of what really follows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from compression.data.types import LANGUAGE
from compression.tasks.base import Evaluation, Scorer, Task
from compression.tasks.classification import softened_divergence
from compression.tasks.metric import PERPLEXITY

LARGEST = 700.0  # mean cross-entropy of which the exponential is finite
CLEARLY = 0.98  # of the perplexity that the frequencies of tokens alone would have


class Language(Task):
    """Answers are logits [B, T, vocabulary] of the token after each, targets token ids int64 [B, T]."""

    name = LANGUAGE
    metric = PERPLEXITY

    def answer_shape(self, x: torch.Tensor, outputs: int) -> tuple[int, ...]:
        """[B, T, vocabulary]."""
        return *x.shape, outputs

    def loss(self, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy in nats, a mean over the tokens."""
        return F.cross_entropy(answer.flatten(0, 1), target.flatten())

    def distillation(self, answer: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """As of a classifier, a mean over the tokens."""
        return softened_divergence(answer.flatten(0, 1), teacher.flatten(0, 1), temperature)

    def same(self, answer: torch.Tensor, other: torch.Tensor) -> float:
        """The share of places with the same likeliest token."""
        return float((answer.argmax(-1) == other.argmax(-1)).float().mean())

    def scorer(self) -> Scorer:
        """Sums cross-entropies over the tokens."""
        return _Surprise(len(self.data.classes))


class _Surprise(Scorer):
    """exp of the mean cross-entropy; the frequencies of the tokens alone are the answer that ignores the text."""

    def __init__(self, vocabulary: int) -> None:
        self.total, self.tokens = 0.0, torch.zeros(vocabulary, dtype=torch.long)

    def add(self, answer: torch.Tensor, target: torch.Tensor) -> None:
        self.total += float(F.cross_entropy(answer.flatten(0, 1), target.flatten(), reduction="sum"))
        self.tokens += torch.bincount(target.flatten(), minlength=len(self.tokens)).cpu()

    def result(self) -> Evaluation:
        loss = self.total / int(self.tokens.sum())
        shares = self.tokens[self.tokens > 0].double() / self.tokens.sum()
        alone = math.exp(-float((shares * shares.log()).sum()))
        score = math.exp(min(loss, LARGEST)) if math.isfinite(loss) else math.inf
        return Evaluation(score, loss, {}, score >= CLEARLY * alone)
