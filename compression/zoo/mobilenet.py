"""A small MobileNet for small images: inverted residual blocks with depthwise convolutions (Sandler et al. 2018)."""

from __future__ import annotations

import torch
from torch import nn

from compression.errors import CompressionError

STEM, HEAD, EXPANSION = 16, 160, 4
STAGES = ((16, 1, 1), (24, 2, 2), (40, 2, 2), (64, 2, 2))  # width, blocks, stride of the first
SMALLEST = 8  # three halvings leave one pixel


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel by its own 3x3, narrow; add the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _convolve(inputs, wide, 1)
        self.depthwise = _convolve(wide, wide, 3, stride, groups=wide)
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """A stem at full resolution, four stages (the later three halve the image), a 1x1 head, pooling, a classifier."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = _convolve(channels, STEM, 3)
        inputs, blocks = STEM, []
        for outputs, repeats, stride in STAGES:
            for repeat in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, stride if repeat == 0 else 1, EXPANSION))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolve(inputs, HEAD, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(HEAD, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        return self.linear(self.pool(self.head(self.blocks(self.stem(x)))).flatten(1))


def _convolve(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def mobilenet_small(input: tuple[int, ...], classes: int) -> MobileNet:
    """Seven inverted residual blocks."""
    if min(input[1:]) < SMALLEST:
        raise CompressionError(
            f"mobilenet_small needs images of at least {SMALLEST}x{SMALLEST}, not {input[1]}x{input[2]}"
        )
    return MobileNet(input[0], classes)
