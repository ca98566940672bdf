"""The data set of the rest of the library: three splits of images or sentences in memory, of one kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Kind:
    """The kind of a data set's examples: ``one`` and ``many`` are its words, ``shape`` names the axes."""

    one: str
    many: str
    shape: str


IMAGE = Kind("image", "images", "channels × height × width")
TEXT = Kind("sentence", "sentences", "tokens")
PIXEL = Kind("pixel", "pixels", "coordinates")
EXAMPLE = Kind("example", "examples", "values")
PASSAGE = Kind("passage", "passages", "bytes")
CLASSIFICATION, PICTURE, SEGMENTATION, LANGUAGE = "classification", "picture", "segmentation", "language"
DETECTION = "detection"
OWN = "own"  # what a function in a user's file says
IGNORED = 255  # the class number of a mask's pixels that do not count
NOTHING = -1.0  # the class of rows that only fill up a table of boxes


LARGEST_ON_DEVICE = 2 << 30
"""Bytes of a split that is kept on an accelerator as a whole; of a larger one, batches are sent there."""


@dataclass(frozen=True, eq=False)
class Split:
    """Examples: ``images`` are what a network takes, ``labels`` what it should answer.

    What does not fit into memory is a :class:`compression.data.files.Files` in the place of a tensor.

    ``images``: uint8 [N, C, H, W], token ids of sentences, int64 [N, T], or coordinates, fp32 [N, 2]. ``labels``: int64
    [N], masks of class numbers, uint8 [N, H, W], boxes, fp32 [N, M, 5] (class, x1, y1, x2, y2 in pixels; class -1 fills
    up), or colours, fp32 [N, channels] in -1..1. Where the data are for a task
    of one's own, both may be any tensors [N, …], or tuples and dicts of such: a tuple of a network's arguments, a dict
    of its keyword arguments.
    """

    images: Any
    labels: Any
    _copies: dict[Any, Split] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        from torch.utils._pytree import tree_leaves

        return len(tree_leaves(self.labels)[0])

    def take(self, indices: torch.Tensor) -> tuple[Any, Any]:
        """The examples at these positions (int64 [B]): inputs and targets, each with B in the place of N."""
        return self._map(lambda rows: rows[indices])

    def ask(self, indices: torch.Tensor) -> None:
        """The examples at these positions are needed next: reading them from files may begin."""
        for rows in self._rows():
            if hasattr(rows, "ask"):
                rows.ask(indices)

    @property
    def device(self) -> torch.device:
        """Where its tensors are; the CPU if what it holds is in files."""
        import torch

        return getattr(self._rows()[0], "device", torch.device("cpu"))

    def on(self, device: torch.device) -> Split:
        """This split on a device, kept there for the next call; itself if it is in files or too large."""
        import torch

        rows = self._rows()
        if device == self.device or not all(isinstance(each, torch.Tensor) for each in rows):
            return self
        if sum(each.numel() * each.element_size() for each in rows) > LARGEST_ON_DEVICE:
            return self
        if device not in self._copies:
            self._copies[device] = Split(*self._map(lambda each: each.to(device)))
        return self._copies[device]

    def subset(self, indices: torch.Tensor) -> Split:
        """The examples at these positions (int64 [M]) as a split."""
        return Split(*self._map(lambda rows: rows.subset(indices) if hasattr(rows, "subset") else rows[indices]))

    @property
    def input(self) -> tuple[int, ...]:
        """The shape of one example without the batch; of several inputs the first."""
        return tuple(self._rows()[0].shape[1:])

    @property
    def of_images(self) -> bool:
        """Whether the inputs are images of 8 bits, which are scaled to 0..1 and normalised."""
        return str(getattr(self.images, "dtype", "")) == "torch.uint8" and self.images.dim() == 4

    def digest(self, total: Any, name: str) -> None:
        """Add the content to a hash, as that of the split ``name``; of what stays in files, their names and times."""
        import torch

        for rows in self._rows():
            total.update(f"{name} {rows.dtype} {tuple(rows.shape)}".encode())
            if hasattr(rows, "digest"):
                rows.digest(total)
            else:
                total.update(rows.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def _rows(self) -> list[Any]:
        """Every tensor of the inputs and then of the targets."""
        from torch.utils._pytree import tree_leaves

        return tree_leaves((self.images, self.labels))

    def _map(self, change: Callable[[Any], Any]) -> tuple[Any, Any]:
        from torch.utils._pytree import tree_map

        result: tuple[Any, Any] = tree_map(change, (self.images, self.labels))
        return result


@dataclass(frozen=True)
class DataSet:
    """Train, validation (10 % of train, fixed seed), test. Choices use validation, only final points use test.

    ``label`` is its name in results (such as "CIFAR-10 (JPEG-75)"); ``mean`` and ``std`` are per channel,
    for images of 8 bits, which are scaled to 0..1; ``augment`` names the training augmentation (``shift``,
    ``shift-flip`` or ``none``).
    ``scaling`` holds how pictures from files were scaled and cropped where that is not the default.
    Everything but images of 8 bits is passed to the model unchanged, without normalisation or augmentation. ``task``
    names what is to be done with the data, ``size`` is (height, width) of a picture whose pixels they are; ``classes``
    are then its channels.
    """

    name: str
    label: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: str = "none"
    kind: Kind = IMAGE
    scaling: Mapping[str, Any] = field(default_factory=dict, hash=False)
    task: str = CLASSIFICATION
    size: tuple[int, int] | None = None

    @property
    def preprocess(self) -> dict[str, Any]:
        """The preprocessing of images, in the form of a budget; empty for what is no set of images of 8 bits."""
        moments = {"mean": list(self.mean), "std": list(self.std)} if self.of_images and self.mean else {}
        return {**moments, **self.scaling}

    @property
    def of_images(self) -> bool:
        """Whether the inputs are images of 8 bits, which are scaled to 0..1 and normalised."""
        return self.train.of_images

    @property
    def input(self) -> tuple[int, ...]:
        """(channels, height, width) of one image, or (tokens,) of one sentence; of several inputs the first."""
        return self.train.input

    def split(self, name: str) -> Split:
        """The split called ``train``, ``validation`` or ``test``."""
        splits: dict[str, Split] = {"train": self.train, "validation": self.validation, "test": self.test}
        return splits[name]
