"""The data set of the rest of the library: three splits of images or sentences in memory, of one kind."""

from __future__ import annotations

from collections.abc import Mapping
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
CLASSIFICATION, PICTURE, SEGMENTATION = "classification", "picture", "segmentation"
IGNORED = 255  # the class number of a mask's pixels that do not count


@dataclass(frozen=True)
class Split:
    """``images``: uint8 [N, C, H, W], token ids of sentences, int64 [N, T], or coordinates, fp32 [N, 2].

    ``labels``: int64 [N], masks of class numbers, uint8 [N, H, W], or colours, fp32 [N, channels] in -1..1.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """Train, validation (10 % of train, fixed seed), test. Choices use validation, only final points use test.

    ``label`` is its name in results (such as "CIFAR-10 (JPEG-75)"); ``mean`` and ``std`` are per channel,
    for images scaled to 0..1; ``augment`` names the training augmentation (``shift``, ``shift-flip`` or ``none``).
    ``scaling`` holds how pictures from files were scaled and cropped where that is not the default.
    Token ids and coordinates (of the kinds ``TEXT`` and ``PIXEL``) are passed to the model unchanged, without
    normalisation or augmentation. ``task`` names what is to be done with the data, ``size`` is (height, width) of a
    picture whose pixels they are; ``classes`` are then its channels.
    """

    name: str
    label: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str
    kind: Kind = IMAGE
    scaling: Mapping[str, Any] = field(default_factory=dict, hash=False)
    task: str = CLASSIFICATION
    size: tuple[int, int] | None = None

    @property
    def preprocess(self) -> dict[str, Any]:
        """The preprocessing of images, in the form of a budget; empty for what is no set of images."""
        if self.kind is not IMAGE:
            return dict(self.scaling)
        return {"mean": list(self.mean), "std": list(self.std), **self.scaling}

    @property
    def input(self) -> tuple[int, ...]:
        """(channels, height, width) of one image, or (tokens,) of one sentence."""
        return tuple(self.train.images.shape[1:])

    def split(self, name: str) -> Split:
        """The split called ``train``, ``validation`` or ``test``."""
        splits: dict[str, Split] = {"train": self.train, "validation": self.validation, "test": self.test}
        return splits[name]
