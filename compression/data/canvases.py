"""Canvases with several handwritten digits of which every pixel is labelled, for segmentation without any download."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from compression.data.catalogue import CANVAS, DIGIT_MASKS, OFFLINE
from compression.data.types import SEGMENTATION, DataSet, Split

SIDE = CANVAS[1]
COUNTS = {"train": 2400, "validation": 300, "test": 600}
FEWEST, MOST = 2, 4  # digits on one canvas
SMALLEST, LARGEST = 18, 32  # pixels of a digit's side
NOISE, INK = 48, 96  # grey levels: the background stays below the first, a digit's pixels are above the second
SEED, TRIES = 0, 20
Pixels = NDArray[np.uint8]


@lru_cache(maxsize=1)
def load_canvases(digits: DataSet) -> DataSet:
    """``digit-masks``: canvases of 64x64 with two to four digits that do not overlap, scaled to 18 to 32 pixels.

    ``digits``: the set that they are taken from, each split from its own. The class of a pixel is 0 on the background,
    else 1 + its digit.
    """
    generator = np.random.default_rng(SEED)
    train, validation, test = (_canvases(digits.split(name), count, generator) for name, count in COUNTS.items())
    classes = ("background", *digits.classes)
    label = f"digits on canvases ({OFFLINE})"
    return DataSet(
        DIGIT_MASKS, label, classes, train, validation, test, digits.mean, digits.std, "shift", task=SEGMENTATION
    )


def _canvases(digits: Split, count: int, generator: np.random.Generator) -> Split:
    images, masks = np.zeros((count, 1, SIDE, SIDE), np.uint8), np.zeros((count, SIDE, SIDE), np.uint8)
    pixels, labels = digits.images[:, 0].numpy(), digits.labels.numpy()
    for image, mask in zip(images[:, 0], masks, strict=True):
        image[:] = generator.integers(0, NOISE, (SIDE, SIDE), dtype=np.uint8)
        for index in generator.integers(0, len(labels), generator.integers(FEWEST, MOST + 1)):
            _place(image, mask, pixels[index], int(labels[index]), generator)
    return Split(torch.from_numpy(images), torch.from_numpy(masks))


def _place(image: Pixels, mask: Pixels, digit: Pixels, label: int, generator: np.random.Generator) -> None:
    """Draw a digit where nothing is yet; it is left out where no such place is hit."""
    side = int(generator.integers(SMALLEST, LARGEST + 1))
    scaled = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR))
    for _ in range(TRIES):
        top, left = generator.integers(0, SIDE - side + 1, 2)
        place = slice(top, top + side), slice(left, left + side)
        if not mask[place].any():
            image[place] = np.maximum(image[place], scaled)
            mask[place][scaled > INK] = label + 1
            return
