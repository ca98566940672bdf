"""Canvases with several handwritten digits with a class for every pixel and a box for every digit, on board."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from compression.data.catalogue import CANVAS, DIGIT_BOXES, DIGIT_MASKS, OFFLINE
from compression.data.types import DETECTION, NOTHING, SEGMENTATION, DataSet, Split

SIDE = CANVAS[1]
COUNTS = {"train": 2400, "validation": 300, "test": 600}
FEWEST, MOST = 2, 4  # digits on one canvas
SMALLEST, LARGEST = 18, 32  # pixels of a digit's side
NOISE, INK = 48, 96  # grey levels: the background stays below the first, a digit's pixels are above the second
SEED, TRIES = 0, 20
Pixels = NDArray[np.uint8]


@lru_cache(maxsize=2)
def load_canvases(digits: DataSet, task: str = SEGMENTATION) -> DataSet:
    """``digit-masks``: canvases of 64x64 with two to four digits that do not overlap, scaled to 18 to 32 pixels.

    ``digits``: the set that they are taken from, each split from its own. The class of a pixel is 0 on the background,
    else 1 + its digit. ``digit-boxes``, for detection: the same canvases with the least box around each digit's ink.
    """
    generator = np.random.default_rng(SEED)
    parts = [_canvases(digits.split(name), count, generator) for name, count in COUNTS.items()]
    label = f"digits on canvases ({OFFLINE})"
    train, validation, test = (
        Split(images, masks if task == SEGMENTATION else boxes) for images, masks, boxes in parts
    )
    name, classes = (
        (DIGIT_BOXES, digits.classes) if task == DETECTION else (DIGIT_MASKS, ("background", *digits.classes))
    )
    return DataSet(name, label, classes, train, validation, test, digits.mean, digits.std, "shift", task=task)


def _canvases(
    digits: Split, count: int, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images uint8 [N, 1, H, W], their masks uint8 [N, H, W], and the boxes of their digits fp32 [N, 4, 5]."""
    images, masks = np.zeros((count, 1, SIDE, SIDE), np.uint8), np.zeros((count, SIDE, SIDE), np.uint8)
    boxes = torch.full((count, MOST, 5), NOTHING)
    pixels, labels = digits.images[:, 0].numpy(), digits.labels.numpy()
    for number, (image, mask) in enumerate(zip(images[:, 0], masks, strict=True)):
        image[:] = generator.integers(0, NOISE, (SIDE, SIDE), dtype=np.uint8)
        for place, index in enumerate(generator.integers(0, len(labels), generator.integers(FEWEST, MOST + 1))):
            box = _place(image, mask, pixels[index], int(labels[index]), generator)
            if box is not None:
                boxes[number, place] = torch.tensor([float(labels[index]), *box])
    return torch.from_numpy(images), torch.from_numpy(masks), boxes


def _place(
    image: Pixels, mask: Pixels, digit: Pixels, label: int, generator: np.random.Generator
) -> tuple[float, ...] | None:
    """Draw a digit where nothing is yet, and return the box of its ink; ``None`` where no such place is hit."""
    side = int(generator.integers(SMALLEST, LARGEST + 1))
    scaled = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR))
    for _ in range(TRIES):
        top, left = generator.integers(0, SIDE - side + 1, 2)
        place = slice(top, top + side), slice(left, left + side)
        if not mask[place].any():
            image[place] = np.maximum(image[place], scaled)
            ink = scaled > INK
            mask[place][ink] = label + 1
            rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
            return left + columns[0], top + rows[0], left + columns[-1] + 1.0, top + rows[-1] + 1.0
    return None
