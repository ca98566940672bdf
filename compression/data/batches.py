"""Seeded batches: whole-batch tensor augmentation, repeatable, and resumable at any (epoch, batch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from compression import devices
from compression.data.types import DETECTION, IGNORED, NOTHING, SEGMENTATION, DataSet

AUGMENTATIONS = ("none", "shift", "shift-flip")
SHIFT = 10  # images are shifted by up to 1/10 of their height and width
VISIBLE = 0.3  # of a box that was cut at the edge of its image
_EPOCHS_APART, _BATCHES_APART = 1_000_003, 7_919  # keep the streams of neighbouring seeds, epochs and batches apart


def normalise(images: torch.Tensor, dataset: DataSet) -> torch.Tensor:
    """uint8 [B, C, H, W] to fp32, scaled to 0..1 and normalised with the data set's mean and deviation, if it has them.

    Token ids (int64 [B, T]), coordinates (fp32 [B, 2]) and other numbers are returned unchanged.
    """
    if not dataset.of_images:
        return images
    scaled = images.float() / 255
    if not dataset.mean:
        return scaled
    mean, std = (_of_channels(tuple(values), images.device) for values in (dataset.mean, dataset.std))
    return (scaled - mean) / std


@lru_cache(maxsize=64)
def _of_channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """One number a channel, in a shape that broadcasts; sent to a device once."""
    return torch.tensor(values).to(device).view(1, -1, 1, 1)


@dataclass(frozen=True)
class Draw:
    """The random numbers of a whole batch of ``count`` examples, of which those of ``part`` are wanted."""

    generator: torch.Generator
    count: int
    part: tuple[int, int]

    def own(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of the examples in the part: every n-th."""
        first, apart = self.part
        return rows[first::apart]


class Shift:
    """A random offset for each image of a batch [B, C, H, W]; ``shift-flip`` flips half of them, ``shift`` none."""

    def __init__(self, images: torch.Tensor, kind: str, draw: Draw) -> None:
        _, _, self.height, self.width = images.shape
        count, generator = draw.count, draw.generator
        self.top, self.left = max(1, self.height // SHIFT), max(1, self.width // SHIFT)
        down = torch.randint(0, 2 * self.top + 1, (count, 1), generator=generator)
        right = torch.randint(0, 2 * self.left + 1, (count, 1), generator=generator)
        flipped = torch.zeros(count, 1, dtype=torch.bool)
        if kind == "shift-flip":
            flipped = torch.rand(count, 1, generator=generator) < 0.5
        # Drawn on the CPU, so that they are the same whatever the images are on
        parts = tuple(draw.own(drawn) for drawn in (down, right, flipped))
        self.down, self.right, self.flipped = devices.send(parts, images.device)

    def apply(self, images: torch.Tensor, fill: int = 0) -> torch.Tensor:
        """The images moved; what was outside of them becomes ``fill``."""
        (count, channels), device = images.shape[:2], images.device
        padded = F.pad(images, (self.left, self.left, self.top, self.top), value=fill)
        batch = torch.arange(count, device=device).view(-1, 1, 1, 1)
        channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
        rows = self.down + torch.arange(self.height, device=device)
        columns = self.right + torch.arange(self.width, device=device)
        columns = torch.where(self.flipped, columns.flip(1), columns)
        return padded[batch, channel, rows.view(count, 1, self.height, 1), columns.view(count, 1, 1, self.width)]

    def boxes(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes fp32 [B, M, 5] (class, x1, y1, x2, y2) moved with their images and cut at their edges.

        One of which less than :data:`VISIBLE` of the area remains is dropped (class -1).
        """
        low, high = (
            boxes[:, :, 1::2] + self.left - self.right.unsqueeze(2),
            boxes[:, :, 2::2] + self.top - self.down.unsqueeze(2),
        )
        mirrored = self.width - low.flip(2)
        low = torch.where(self.flipped.unsqueeze(2), mirrored, low)
        moved = torch.stack([low[..., 0], high[..., 0], low[..., 1], high[..., 1]], 2)
        across, along = moved[..., 0::2].clamp(0, self.width), moved[..., 1::2].clamp(0, self.height)
        inside = torch.stack([across, along], 3).flatten(2)
        visible = _areas(inside) >= VISIBLE * _areas(moved)
        kinds = torch.where(visible, boxes[:, :, 0], NOTHING).unsqueeze(2)
        return torch.cat([kinds, inside], 2)


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


class Batches:
    """The batches of one split, as (x normalised fp32 [B, C, H, W] or token ids int64 [B, T], y int64 [B]).

    Where the targets are masks, y is int64 [B, H, W]; of other data, both are what their splits hold.

    ``train`` is shuffled and augmented by (seed, epoch), and an incomplete last batch is dropped (its images appear
    in other epochs); other splits are in order, complete and not augmented. ``augment=False`` switches
    augmentation off. Iterating yields the batches of ``epoch``; :meth:`batch` returns any batch of any epoch, so a run
    resumes in the middle of one.

    The batches are on ``device``. A split in memory is sent there as a whole where it is not too large
    (:meth:`compression.data.types.Split.on`), and is shuffled, augmented and normalised there. ``part`` (i, n) leaves
    the examples i, i + n, i + 2n … of each batch: what one of n processes takes.
    """

    def __init__(
        self,
        dataset: DataSet,
        split: str = "train",
        batch_size: int = 64,
        seed: int = 0,
        augment: bool | None = None,
        device: str | torch.device = "cpu",
        epoch: int = 0,
        limit: int | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.part = part
        self.dataset, self.seed, self.epoch, self.device = dataset, seed, epoch, torch.device(device)
        self.split = dataset.split(split).on(self.device)
        self.count = len(self.split) if limit is None else min(limit, len(self.split))
        self.training = split == "train"
        self.augment = dataset.augment if (self.training if augment is None else augment) else "none"
        self.batch_size = min(batch_size, self.count) if self.training else batch_size
        self._order: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        if self.training:
            return self.count // self.batch_size
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for index in range(len(self)):
            yield self.batch(self.epoch, index)

    def batch(self, epoch: int, index: int) -> tuple[Any, Any]:
        """Batch ``index`` of ``epoch``: depends on nothing but these, the seed and the batch size."""
        chosen = self._indices(epoch, index)
        draw = Draw(self._generator(epoch, index + 1), len(chosen), self.part)
        x, y = self.split.take(devices.send(draw.own(chosen), self.split.device))
        self.split.ask(
            draw.own(self._indices(epoch, index + 1) if index + 1 < len(self) else self._indices(epoch + 1, 0))
        )
        x, y = devices.send((x, y), self.device)
        return self._prepared(x, y, draw) if self.dataset.of_images else (x, y)

    def _prepared(self, images: torch.Tensor, labels: Any, draw: Draw) -> tuple[torch.Tensor, Any]:
        """Augmented and normalised images; class numbers of 8 bits as int64, which losses take."""
        if self.augment != "none":
            shift = Shift(images, self.augment, draw)
            images = shift.apply(images)
            if self.dataset.task == SEGMENTATION:  # a mask moves with its image
                labels = shift.apply(labels.unsqueeze(1), IGNORED).squeeze(1)
            elif self.dataset.task == DETECTION:
                labels = shift.boxes(labels)
        numbers = isinstance(labels, torch.Tensor) and labels.dtype is torch.uint8
        return normalise(images, self.dataset), labels.long() if numbers else labels

    def _indices(self, epoch: int, index: int) -> torch.Tensor:
        return self._permutation(epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def _generator(self, epoch: int, stream: int) -> torch.Generator:
        mixed = (self.seed * _EPOCHS_APART + epoch) * _BATCHES_APART + stream
        return torch.Generator().manual_seed(mixed % 2**63)

    def _permutation(self, epoch: int) -> torch.Tensor:
        if not self.training:
            return torch.arange(self.count)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, torch.randperm(self.count, generator=self._generator(epoch, 0)))
        return self._order[1]
