"""A small U-Net (Ronneberger et al., arXiv 1505.04597): a class for every pixel, with skip connections."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from compression.errors import CompressionError

WIDTHS = (8, 16, 32, 64)
SMALLEST = 2 ** (len(WIDTHS) - 1)


class Block(nn.Sequential):
    """Convolution 3x3, batch norm, ReLU, twice."""

    def __init__(self, inputs: int, outputs: int) -> None:
        parts: list[nn.Module] = []
        for channels in (inputs, outputs):
            parts += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*parts)


class UNet(nn.Module):
    """Blocks on the way down (halved by pooling), a block at the bottom, and blocks on the way up.

    On the way up the coarser features are doubled in size and concatenated with those of the way down.
    """

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        sizes = (channels, *widths)
        self.down = nn.ModuleList(Block(*pair) for pair in zip(sizes[:-1], widths, strict=True))
        self.up = nn.ModuleList(
            Block(coarse + fine, fine) for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to logits [B, classes, H, W]."""
        skips: list[torch.Tensor] = []
        for place, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if place else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            fine = skips.pop()
            x = block(torch.cat([F.interpolate(x, fine.shape[2:]), fine], 1))
        out: torch.Tensor = self.head(x)
        return out


def unet_small(input: tuple[int, ...], classes: int) -> UNet:
    """Widths 8, 16, 32 and 64: 122,411 parameters for 11 classes.

    Raises:
        CompressionError: images too small to be halved three times.
    """
    if min(input[1:]) < SMALLEST:
        raise CompressionError(f"unet_small needs images of at least {SMALLEST}x{SMALLEST}, not {input[1]}x{input[2]}")
    return UNet(input[0], classes)
