"""A few images side by side, as tasks on images show their answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

SHOWN, COLUMNS, GAP = 8, 4, 2


def sheet(tiles: torch.Tensor) -> torch.Tensor:
    """Images uint8 [n, H, W, 3] in rows of four with white lines between them: uint8 [height, width, 3]."""
    padded = F.pad(tiles.permute(0, 3, 1, 2), (GAP, 0, GAP, 0), value=255)
    missing = -len(padded) % COLUMNS if len(padded) > COLUMNS else 0
    padded = torch.cat([padded, padded.new_full((missing, *padded.shape[1:]), 255)])
    rows = [torch.cat(list(row), 2) for row in padded.split(COLUMNS)]
    return torch.cat(rows, 1).permute(1, 2, 0).contiguous()


def grey(images: torch.Tensor) -> torch.Tensor:
    """Images uint8 [n, C, H, W] in grey, fp32 [n, H, W, 3], on which colours stand out."""
    return images.float().mean(1).unsqueeze(3).expand(-1, -1, -1, 3)


def palette(classes: int) -> torch.Tensor:
    """A colour for each class, fp32 [classes + 1, 3] in 0..255; the last is that of what does not count.

    Bits of the class number are spread over the three channels, as in PASCAL VOC, so that neighbours differ.
    """
    colours = torch.zeros(classes + 1, 3)
    for number in range(classes):
        for bit in range(number.bit_length()):
            if number >> bit & 1:
                colours[number, bit % 3] += 1 << (7 - bit // 3)
    return colours
