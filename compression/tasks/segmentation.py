"""Segmentation: a class for every pixel, measured by how far the regions of each class overlap with the true ones."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from compression.data import Batches
from compression.data.types import IGNORED, SEGMENTATION
from compression.tasks.base import Evaluation, Scorer, Task
from compression.tasks.classification import softened_divergence
from compression.tasks.metric import MIOU
from compression.tasks.sheet import SHOWN, grey, palette, sheet

TINT = 0.6  # how much of a pixel's shown colour is that of its class


class Segmentation(Task):
    """Answers are logits [B, classes, H, W], targets class numbers int64 [B, H, W]; 255 does not count."""

    name = SEGMENTATION
    metric = MIOU
    evaluation_batch = 50

    def answer_shape(self, x: torch.Tensor, outputs: int) -> tuple[int, ...]:
        """[B, classes, H, W]."""
        return len(x), outputs, *x.shape[2:]

    def loss(self, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, a mean over the pixels that count; 0 where none does."""
        total = F.cross_entropy(answer, target, ignore_index=IGNORED, reduction="sum")
        return total / (target != IGNORED).sum().clamp(min=1)

    def distillation(self, answer: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """As of a classifier, a mean over all pixels: a teacher has an answer where the truth is unknown, too."""
        own, target = (logits.movedim(1, -1).flatten(0, -2) for logits in (answer, teacher))
        return softened_divergence(own, target, temperature)

    def same(self, answer: torch.Tensor, other: torch.Tensor) -> float:
        """The share of pixels with the same class."""
        return float((answer.argmax(1) == other.argmax(1)).float().mean())

    def picture(self, model: nn.Module) -> torch.Tensor:
        """The first validation images, each pixel tinted with the class that the model gives it."""
        answer = self._evaluated(model, self._shown()[0])
        return self._sheet(answer.argmax(1))

    def original(self) -> torch.Tensor:
        """The same images with their true classes."""
        return self._sheet(self._shown()[1])

    def scorer(self) -> Scorer:
        """Counts pixels by their true class and the answer."""
        return _Overlaps(len(self.data.classes))

    def _shown(self) -> tuple[torch.Tensor, torch.Tensor]:
        return next(iter(Batches(self.data, "validation", SHOWN, augment=False)))

    def _sheet(self, classes: torch.Tensor) -> torch.Tensor:
        """uint8 [height, width, 3]: the shown images in rows of four, tinted by ``classes`` [n, H, W]."""
        return sheet(tinted(self._images(len(classes)), classes, len(self.data.classes)))


def tinted(images: torch.Tensor, classes: torch.Tensor, count: int) -> torch.Tensor:
    """Images uint8 [n, C, H, W], each pixel tinted by its class, int64 [n, H, W] of ``count``: uint8 [n, H, W, 3].

    Class 0 and pixels that do not count stay grey.
    """
    plain = grey(images)
    colours = palette(count)[classes.clamp(max=count)]
    none = (classes == 0).unsqueeze(3) | (classes == IGNORED).unsqueeze(3)
    return torch.where(none, plain, (1 - TINT) * plain + TINT * colours).round().to(torch.uint8)


class _Overlaps(Scorer):
    """Mean over classes of |answer ∩ truth| / |answer ∪ truth|, of all pixels of the split together.

    A class that is in neither does not count; ``details["pixels"][truth][answer]`` are the counts.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.pixels, self.loss, self.count = torch.zeros(classes * classes, dtype=torch.long), 0.0, 0

    def add(self, answer: torch.Tensor, target: torch.Tensor) -> None:
        self.loss += float(F.cross_entropy(answer, target, ignore_index=IGNORED, reduction="sum"))
        counts = target != IGNORED
        pairs = target[counts] * self.classes + answer.argmax(1)[counts]
        self.pixels += torch.bincount(pairs, minlength=self.classes**2).cpu()
        self.count += int(counts.sum())

    def result(self) -> Evaluation:
        table = self.pixels.view(self.classes, self.classes)
        both, truth, answer = (part.double() for part in (table.diagonal(), table.sum(1), table.sum(0)))
        union = truth + answer - both
        overlaps = torch.where(union > 0, both / union, math.nan)
        score = float(overlaps.nanmean()) if self.count else 0.0
        # chance: one class everywhere overlaps with that class alone, by its share of the pixels
        present = max(1, int((truth > 0).sum()))
        is_chance = score <= float(truth.max()) / max(1, self.count) / present + 0.01
        details: dict[str, Any] = {"pixels": table.tolist()}
        return Evaluation(score, self.loss / max(1, self.count), details, is_chance)
