"""Seeded batches: whole-batch tensor augmentation, repeatable, and resumable at any (epoch, batch)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from compression.data.types import IMAGE, DataSet

SHIFT = 10  # images are shifted by up to 1/10 of their height and width
_EPOCHS_APART, _BATCHES_APART = 1_000_003, 7_919  # keep the streams of neighbouring seeds, epochs and batches apart


def normalise(images: torch.Tensor, dataset: DataSet) -> torch.Tensor:
    """uint8 [B, C, H, W] to fp32, scaled to 0..1 and normalised with the data set's mean and standard deviation.

    Token ids (int64 [B, T]) and coordinates (fp32 [B, 2]) are returned unchanged.
    """
    if dataset.kind is not IMAGE:
        return images
    mean = torch.tensor(dataset.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(dataset.std, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def augment_batch(images: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Shift each image of a uint8 batch [B, C, H, W] by a random offset, padded with zeros; flip half of them.

    ``kind`` is ``shift``, ``shift-flip`` (only this flips) or ``none``.
    """
    if kind == "none":
        return images
    count, channels, height, width = images.shape
    top, left = max(1, height // SHIFT), max(1, width // SHIFT)
    rows = torch.randint(0, 2 * top + 1, (count, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(0, 2 * left + 1, (count, 1), generator=generator) + torch.arange(width)
    if kind == "shift-flip":
        flipped = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    padded = F.pad(images, (left, left, top, top))
    batch = torch.arange(count).view(-1, 1, 1, 1)
    channel = torch.arange(channels).view(1, -1, 1, 1)
    return padded[batch, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]


class Batches:
    """The batches of one split, as (x normalised fp32 [B, C, H, W] or token ids int64 [B, T], y int64 [B]).

    ``train`` is shuffled and augmented by (seed, epoch), and an incomplete last batch is dropped (its images appear
    in other epochs); other splits are in order, complete and not augmented. ``augment=False`` switches
    augmentation off. Iterating yields the batches of ``epoch``; :meth:`batch` returns any batch of any epoch, so a run
    resumes in the middle of one.
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
    ) -> None:
        self.dataset, self.seed, self.epoch, self.device = dataset, seed, epoch, torch.device(device)
        self.images, self.labels = dataset.split(split).images, dataset.split(split).labels
        self.count = len(self.labels) if limit is None else min(limit, len(self.labels))
        self.training = split == "train"
        self.augment = dataset.augment if (self.training if augment is None else augment) else "none"
        self.batch_size = min(batch_size, self.count) if self.training else batch_size
        self._order: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        if self.training:
            return self.count // self.batch_size
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index in range(len(self)):
            yield self.batch(self.epoch, index)

    def batch(self, epoch: int, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch ``index`` of ``epoch``: depends on nothing but these, the seed and the batch size."""
        chosen = self._permutation(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        generator = self._generator(epoch, index + 1)
        images = augment_batch(self.images[chosen], self.augment, generator).to(self.device)
        return normalise(images, self.dataset), self.labels[chosen].to(self.device)

    def _generator(self, epoch: int, stream: int) -> torch.Generator:
        mixed = (self.seed * _EPOCHS_APART + epoch) * _BATCHES_APART + stream
        return torch.Generator().manual_seed(mixed % 2**63)

    def _permutation(self, epoch: int) -> torch.Tensor:
        if not self.training:
            return torch.arange(self.count)
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, torch.randperm(self.count, generator=self._generator(epoch, 0)))
        return self._order[1]
