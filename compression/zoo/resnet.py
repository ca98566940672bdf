"""Residual networks for small images (He et al. 2016, section 4.2), with projection shortcuts ("option B")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from compression.errors import CompressionError

SMALLEST = 4  # two halvings leave one pixel


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added; a 1x1 convolution projects it where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C', H / stride, W / stride]."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(residual + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, three stages of blocks (the later two halve the image), global average pooling, a linear classifier."""

    def __init__(self, channels: int, widths: Sequence[int], blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = _stage(widths[0], widths[0], blocks, stride=1)
        self.layer2 = _stage(widths[0], widths[1], blocks, stride=2)
        self.layer3 = _stage(widths[1], widths[2], blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(widths[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x).flatten(1))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def _resnet(name: str, input: tuple[int, ...], width: int, blocks: int, classes: int) -> ResNet:
    if min(input[1:]) < SMALLEST:
        raise CompressionError(f"{name} needs images of at least {SMALLEST}x{SMALLEST}, not {input[1]}x{input[2]}")
    return ResNet(input[0], (width, 2 * width, 4 * width), blocks, classes)


def resnet8(input: tuple[int, ...], classes: int) -> ResNet:
    """Width 8, one block a stage: 19,810 parameters on 1x28x28."""
    return _resnet("resnet8", input, 8, 1, classes)


def resnet20(input: tuple[int, ...], classes: int) -> ResNet:
    """Width 16, three blocks a stage: 272,474 parameters, 40.813 MMACs on 3x32x32."""
    return _resnet("resnet20", input, 16, 3, classes)


def resnet56(input: tuple[int, ...], classes: int) -> ResNet:
    """Width 16, nine blocks a stage."""
    return _resnet("resnet56", input, 16, 9, classes)
