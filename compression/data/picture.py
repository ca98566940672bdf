"""One picture as a data set: every pixel is an example, its coordinates the input and its colour the answer.

A network fitted to it is the picture. All pixels are seen in training, so that the three splits are the same.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from compression.data.catalogue import PICTURE_PREFIX, PICTURE_SIDE, SHIPPED_PICTURES, picked_file
from compression.data.pictures import Span, read, size_of
from compression.data.types import PICTURE, PIXEL, DataSet, Split
from compression.errors import CompressionError
from compression.preprocess import Preprocess

AS_IT_IS = Preprocess()
CHANNELS = ("red", "green", "blue")


def load_picture(name: str, how: Preprocess = AS_IT_IS) -> DataSet:
    """The picture ``picture:NAME`` or ``picture:FILE``, its longer side scaled to at most 256 pixels.

    ``how.crop`` takes a square of that many pixels from its middle instead.

    Raises:
        CompressionError: there is no such picture, or its file cannot be read.
    """
    return _loaded(name, picked_file(name), how)


@lru_cache(maxsize=2)
def _loaded(name: str, path: Path, how: Preprocess) -> DataSet:
    height, width = whole = size_of(path)
    if how.crop is not None and how.crop > min(whole):
        raise CompressionError(f"preprocess.crop must be at most {min(whole)}, the shorter side of {path.name}")
    height, width = _scaled(*whole) if how.crop is None else (how.crop, how.crop)
    pixels = read(path, (3, height, width), how, Span([path], how.range))
    split = Split(coordinates(height, width), colours(torch.from_numpy(np.ascontiguousarray(pixels))))
    short = name.removeprefix(PICTURE_PREFIX)
    label = f"{short if short in SHIPPED_PICTURES else path.name} ({width}×{height} pixels)"
    return DataSet(
        name, label, CHANNELS, split, split, split, mean=(), std=(), augment="none", kind=PIXEL,
        scaling=how.to_dict(), task=PICTURE, size=(height, width),
    )  # fmt: skip


def coordinates(height: int, width: int) -> torch.Tensor:
    """(x, y) of the centre of every pixel row by row, fp32 [height · width, 2]; the longer side spans -1..1."""
    longer = max(height, width)
    y = (torch.arange(height) + 0.5) * 2 / longer - height / longer
    x = (torch.arange(width) + 0.5) * 2 / longer - width / longer
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], 2).view(-1, 2)


def colours(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [C, H, W] as fp32 [H · W, C] in -1..1."""
    return pixels.permute(1, 2, 0).reshape(-1, len(pixels)).float() / 127.5 - 1


def pixels(colours: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The inverse of :func:`colours`, clamped and rounded: uint8 [H, W, C]."""
    return levels(colours).to(torch.uint8).view(*size, -1)


def levels(colours: torch.Tensor) -> torch.Tensor:
    """Colours in -1..1 on the 256 levels of a screen, clamped and rounded: fp32 of the same shape in 0..255."""
    return ((colours + 1) * 127.5).round().clamp(0, 255)


def _scaled(height: int, width: int) -> tuple[int, int]:
    share = min(1.0, PICTURE_SIDE / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))
