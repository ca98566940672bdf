"""A small single-stage detector: convolutions and C2f blocks (Ultralytics' YOLOv8), a box and logits for each cell.

Boxes are decoded in the network: each cell predicts its distances to the four sides (Tian et al., FCOS, arXiv
1904.01355, eq. 1). What remains for the caller is to drop boxes that overlap with better ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from compression.errors import CompressionError

WIDTHS, STRIDE = (16, 32, 64), 8
RARE = -4.0  # the logit of a class before training: most cells hold nothing


class Conv(nn.Sequential):
    """Convolution without bias, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


class C2f(nn.Module):
    """Split in two halves, refine the second again and again, and join all of what came by."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        half = channels // 2
        self.split = Conv(channels, channels, 1)
        self.blocks = nn.ModuleList(nn.Sequential(Conv(half, half), Conv(half, half)) for _ in range(count))
        self.join = Conv((2 + count) * half, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to the same shape."""
        parts = list(self.split(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(parts[-1] + block(parts[-1]))
        out: torch.Tensor = self.join(torch.cat(parts, 1))
        return out


class Detector(nn.Module):
    """A backbone down to cells of 8x8 pixels, and two heads on it."""

    centres: torch.Tensor

    def __init__(self, input: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = input
        one, two, three = WIDTHS
        self.backbone = nn.Sequential(
            Conv(channels, one, 3, 2), Conv(one, two, 3, 2), C2f(two, 1), Conv(two, three, 3, 2), C2f(three, 2)
        )
        self.box = nn.Sequential(Conv(three, three), nn.Conv2d(three, 4, 1))
        logits = nn.Conv2d(three, classes, 1)
        self.kind = nn.Sequential(Conv(three, three), logits)
        nn.init.constant_(logits.bias, RARE)  # type: ignore[arg-type]
        self.register_buffer("centres", centres(height, width, STRIDE).T.unsqueeze(0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, cells, 4 + classes]: x1, y1, x2, y2 in pixels, then a logit for each class."""
        features = self.backbone(x)
        sides = STRIDE * F.softplus(self.box(features).flatten(2))
        boxes = torch.cat([self.centres - sides[:, :2], self.centres + sides[:, 2:]], 1)
        return torch.cat([boxes, self.kind(features).flatten(2)], 1).transpose(1, 2)


def centres(height: int, width: int, stride: int) -> torch.Tensor:
    """(x, y) of the centre of each cell in pixels, row by row, fp32 [cells, 2]."""
    y, x = (stride * (torch.arange(-(-size // stride)) + 0.5) for size in (height, width))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], 2).view(-1, 2)


def detector_tiny(input: tuple[int, ...], classes: int) -> Detector:
    """Widths 16, 32 and 64.

    Raises:
        CompressionError: images smaller than a cell.
    """
    if min(input[1:]) < STRIDE:
        raise CompressionError(f"detector_tiny needs images of at least {STRIDE}x{STRIDE}, not {input[1]}x{input[2]}")
    return Detector(input, classes)
