"""The two models of a finished run of any task, to be asked what no data set holds: a sentence, a part of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression import devices
from compression.data import TEXT, normalise
from compression.data.types import CLASSIFICATION, PICTURE, SEGMENTATION, Kind
from compression.errors import CompressionError
from compression.explain.models import SPLIT
from compression.explain.own_image import OwnAnswers
from compression.export.source import read
from compression.runs.folder import RunFolder
from compression.tasks import Task
from compression.tasks.picture import Picture
from compression.tasks.segmentation import tinted

MOST_CHARACTERS = 2000
SENTENCE, REGION = "sentence", "region"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answering:
    """``dense`` and the ``small`` model restored from the packed file, both in evaluation mode, and their task."""

    dense: nn.Module
    small: nn.Module
    task: Task

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return devices.device_of(self.dense)


@dataclass(frozen=True, eq=False)
class Whole:
    """What both models make of one picture, uint8 [H, W, 3] each.

    ``difference``: white where ``dense`` and ``small`` differ most, black where they agree; ``levels`` [H, W]: by how
    much, in 0..255, or 1 for another class and 0 for the same (``of_classes``).
    """

    truth: Pixels
    dense: Pixels
    small: Pixels
    levels: NDArray[np.int64]
    of_classes: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.truth.shape[0], self.truth.shape[1]

    def region(self, top: int, left: int, side: int) -> Whole:
        """The square of ``side`` pixels whose upper left corner is there, moved and cut to lie inside the picture."""
        height, width = self.size
        top = min(max(0, top), max(0, height - side))
        left = min(max(0, left), max(0, width - side))
        rows, columns = slice(top, top + side), slice(left, left + side)
        truth, dense, small = (part[rows, columns] for part in (self.truth, self.dense, self.small))
        return Whole(truth, dense, small, self.levels[rows, columns], self.of_classes)

    @property
    def difference(self) -> Pixels:
        """The levels in grey, the largest white, uint8 [H, W, 3]."""
        grey = self.levels * (255 / max(1, int(self.levels.max())))
        return np.repeat(grey.round().astype(np.uint8)[..., None], 3, 2)

    @property
    def changed(self) -> float:
        """The share of pixels on which the two models differ."""
        return float((self.levels > 0).mean())


def offered(kind: Kind, task: str) -> str:
    """Which question suits data of this kind and task: :data:`SENTENCE`, :data:`REGION`, or nothing."""
    if kind is TEXT and task == CLASSIFICATION:
        return SENTENCE
    return REGION if task in (PICTURE, SEGMENTATION) else ""


def answering(folder: RunFolder) -> Answering:
    """Restore both models of a run that is done.

    Raises:
        CompressionError: as :func:`compression.export.source.read`.
    """
    source = read(folder)
    return Answering(source.dense.eval(), source.model.eval(), source.task)


@torch.no_grad()
def of_sentence(text: str, both: Answering) -> OwnAnswers:
    """The probabilities that both models give the classes of a sentence.

    Raises:
        CompressionError: nothing but spaces, or more than 2,000 characters.
    """
    from compression.data.text import encode

    if not text.strip():
        raise CompressionError("type a sentence first")
    if len(text) > MOST_CHARACTERS:
        raise CompressionError(f"a sentence of more than {MOST_CHARACTERS:,} characters is not read")
    ids = encode([text]).to(both.device)
    dense, small = (model(ids)[0].float().softmax(0).tolist() for model in (both.dense, both.small))
    return OwnAnswers(tuple(dense), tuple(small))


@torch.no_grad()
def whole(both: Answering, image: int = 0) -> Whole:
    """What both models make of a picture: of the one that they are, or of a test image.

    Args:
        both: models of a picture, or of segmentation.
        image: place in the test split, of segmentation.

    Raises:
        CompressionError: another task, or no such image.
    """
    task = both.task
    if isinstance(task, Picture):
        pictures = task.original(), task.picture(both.dense), task.picture(both.small)
        truth, dense, small = (_colour(picture.cpu().numpy()) for picture in pictures)
        return Whole(truth, dense, small, _largest(dense, small), False)
    if task.name != SEGMENTATION:
        raise CompressionError(f"the answers of {task.name} are no pictures")
    split = task.data.split(SPLIT)
    if not 0 <= image < len(split):
        raise CompressionError(f"there is no test image {image}: there are {len(split):,}")
    images, labels = split.take(torch.tensor([image]))
    batch = normalise(images.to(both.device), task.data)
    answers = [model(batch).argmax(1).cpu() for model in (both.dense, both.small)]
    truth, dense, small = (
        tinted(images.cpu(), each, len(task.data.classes))[0].numpy() for each in (labels.cpu().long(), *answers)
    )
    return Whole(truth, dense, small, (answers[0] != answers[1])[0].long().numpy(), True)


def count(both: Answering) -> int:
    """How many pictures there are to ask about: the test images, or the one that the network is."""
    return 1 if isinstance(both.task, Picture) else len(both.task.data.split(SPLIT))


def _largest(one: Pixels, other: Pixels) -> NDArray[np.int64]:
    """The largest difference of any channel, in levels of 0..255."""
    return np.abs(one.astype(np.int64) - other.astype(np.int64)).max(2)


def _colour(picture: Pixels) -> Pixels:
    return picture if picture.shape[2] == 3 else np.repeat(picture[..., :1], 3, 2)
