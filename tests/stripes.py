"""A small data set that a network learns in a few steps: where the bright stripe is tells the class."""

from __future__ import annotations

import torch

from compression.data.types import DataSet, Split


def stripes(count: int, seed: int) -> Split:
    """Images that are easy to tell apart: the class is where the bright stripe is."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 80, (count, 1, 12, 12), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 3 * label : 3 * label + 2] += 150
    return Split(images, labels)


def striped(augment: str = "none") -> DataSet:
    """640 images [1, 12, 12] for training and 64 for each other split, of 4 classes."""
    splits = stripes(640, 0), stripes(64, 1), stripes(64, 2)
    return DataSet("stripes", "stripes", ("a", "b", "c", "d"), *splits, (0.3,), (0.3,), augment)
