"""VGG-7: six 3x3 convolutions in pairs, a pooling after each pair (the VGG7 of GETA's experiments)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from compression.errors import CompressionError

WIDTHS = (128, 128, 256, 256, 512, 512)
HIDDEN = 1024
SMALLEST = 8  # three halvings leave one pixel


class VGG(nn.Module):
    """Convolution (with bias), batch norm, ReLU, six times; pooled after every second; averaged; two linear layers."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise((channels, *WIDTHS))):
            parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            if index % 2 == 1:
                parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(WIDTHS[-1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


def vgg7(input: tuple[int, ...], classes: int) -> VGG:
    """5,115,530 parameters, 608.053 MMACs on 3x32x32."""
    if min(input[1:]) < SMALLEST:
        raise CompressionError(f"vgg7 needs images of at least {SMALLEST}x{SMALLEST}, not {input[1]}x{input[2]}")
    return VGG(input[0], classes)
