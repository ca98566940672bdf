"""A picture: a network that answers coordinates with colours is the picture; its peak signal-to-noise ratio counts."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from compression.data.picture import levels, pixels
from compression.data.types import PICTURE
from compression.tasks.base import Evaluation, Scorer, Task
from compression.tasks.metric import PSNR

SMALLEST = 1e-12  # mean squared error of colours in 0..1, so that the ratio of a perfect picture is finite


class Picture(Task):
    """Answers and targets are colours, fp32 [B, channels] in -1..1."""

    name = PICTURE
    metric = PSNR
    sampled = False
    evaluation_batch = 1 << 14

    def answer_shape(self, x: torch.Tensor, outputs: int) -> tuple[int, ...]:
        """[B, channels]."""
        return len(x), outputs

    def loss(self, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error."""
        return F.mse_loss(answer, target)

    def distillation(self, answer: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """Mean squared difference; there is nothing to soften."""
        return F.mse_loss(answer, teacher)

    def batch_score(self, answer: torch.Tensor, target: torch.Tensor) -> float:
        """The ratio over the pixels of the batch, before rounding."""
        return decibels(float(F.mse_loss(answer, target)) / 4)

    def scorer(self) -> Scorer:
        """Sums squared errors of the picture as a viewer shows it: clamped, 8 bits a channel."""
        return _Errors()

    def picture(self, model: nn.Module) -> torch.Tensor:
        """The picture itself."""
        assert self.data.size is not None
        parts = [self._evaluated(model, part).float() for part in self.data.test.images.split(self.evaluation_batch)]
        return pixels(torch.cat(parts), self.data.size)

    def original(self) -> torch.Tensor:
        """The picture that the network is fitted to."""
        assert self.data.size is not None
        return pixels(self.data.test.labels, self.data.size)

    def beside(self, size: int) -> dict[str, Any]:
        """Bits a pixel, and JPEG and WebP of the same picture in the best quality that takes no more bytes."""
        codecs = {name: _encoded(self.original().numpy(), name, size) for name in ("JPEG", "WEBP")}
        return {"bits_per_pixel": 8 * size / len(self.data.test), **codecs}


def decibels(error: float) -> float:
    """The peak signal-to-noise ratio, -10 log10 of a mean squared error of colours in 0..1; at most 120."""
    return -10 * math.log10(max(error, SMALLEST))


def _encoded(original: NDArray[np.uint8], name: str, size: int) -> dict[str, float] | None:
    """The best file of a format with at most ``size`` bytes: its quality, bytes and PSNR; ``None``: there is none."""
    best = None
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.fromarray(original).save(file, name, quality=quality)
        if len(file.getvalue()) <= size and (best is None or quality > best[0]):
            best = quality, file
    if best is None:
        return None
    quality, file = best
    decoded = np.asarray(Image.open(file).convert("RGB"), np.float64)
    error = float(np.mean((decoded / 255 - original / 255) ** 2))
    return {"quality": quality, "bytes": len(file.getvalue()), "psnr": decibels(error)}


class _Errors(Scorer):
    """Squared errors and what a constant answer would have, over all channels."""

    def __init__(self) -> None:
        self.loss, self.error, self.count = 0.0, 0.0, 0
        self.sum: torch.Tensor | float = 0.0
        self.squares = 0.0

    def add(self, answer: torch.Tensor, target: torch.Tensor) -> None:
        answer, target = answer.cpu(), target.cpu()
        shown, truth = levels(answer) / 255, levels(target) / 255
        self.error += float((shown - truth).double().square().sum())
        self.loss += float(F.mse_loss(answer, target, reduction="sum"))
        self.sum = self.sum + truth.double().sum(0)
        self.squares += float(truth.double().square().sum())
        self.count += target.numel()

    def result(self) -> Evaluation:
        score = decibels(self.error / self.count)
        assert isinstance(self.sum, torch.Tensor)
        # the mean colour of the picture is the best answer that ignores the coordinates
        constant = self.squares - float(self.sum.square().sum()) * len(self.sum) / self.count
        is_chance = score <= decibels(constant / self.count) + 0.1
        return Evaluation(score, self.loss / self.count, {}, is_chance)
