"""VGG-7: six 3x3 convolutions in pairs, a pooling after each pair (the VGG7 of GETA's experiments), in two widths."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from compression.errors import CompressionError

TIMES = (1, 1, 2, 2, 4, 4)  # channels of each convolution, and HIDDEN of the first linear layer, in widths
HIDDEN = 8
SMALLEST = 8  # three halvings leave one pixel


class VGG(nn.Module):
    """Convolution (with bias), batch norm, ReLU, six times; pooled after every second; averaged; two linear layers."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [times * width for times in TIMES]
        parts: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise((channels, *widths))):
            parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            if index % 2 == 1:
                parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(widths[-1], HIDDEN * width), nn.ReLU(), nn.Linear(HIDDEN * width, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


def vgg7(input: tuple[int, ...], classes: int) -> VGG:
    """Width 128: 5,115,530 parameters, 608.053 MMACs on 3x32x32."""
    return _vgg("vgg7", input, classes, 128)


def vgg7_small(input: tuple[int, ...], classes: int) -> VGG:
    """Width 32, a sixteenth of ``vgg7``: epochs take a minute on a processor."""
    return _vgg("vgg7_small", input, classes, 32)


def _vgg(name: str, input: tuple[int, ...], classes: int, width: int) -> VGG:
    if min(input[1:]) < SMALLEST:
        raise CompressionError(f"{name} needs images of at least {SMALLEST}x{SMALLEST}, not {input[1]}x{input[2]}")
    return VGG(input[0], classes, width)
