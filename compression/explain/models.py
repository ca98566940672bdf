"""The two models of a finished run, and which images they disagree on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from compression import devices, zoo
from compression.data import IMAGE, DataSet, kind, normalise
from compression.errors import CompressionError
from compression.export.source import read
from compression.runs.folder import RunFolder
from compression.tasks import attributable
from compression.zoo.origin import redrawn

SPLIT = "test"  # nothing is chosen by what an explanation shows
BATCH = 100
MOST_SCANNED, FEWEST_SCANNED, SCAN_MACS = 1000, 32, 40e9  # of the dense model: some seconds on one thread
OTHER_WEIGHTS = 7_919  # added to the seed: the dense model itself began from initial weights of a small seed


@dataclass(frozen=True, eq=False)
class Pair:
    """``dense`` and the ``small`` model restored from the packed file, both in evaluation mode.

    ``random`` is the dense architecture with fresh initial weights: what an explanation owes to the architecture alone.
    """

    dense: nn.Module
    small: nn.Module
    random: nn.Module
    data: DataSet
    input: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return devices.device_of(self.dense)

    def on(self, device: torch.device) -> Pair:
        """The same three models on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("dense", "small", "random")})

    def images(self, indices: list[int]) -> torch.Tensor:
        """Test images as the models take them, where they are: normalised fp32 [len(indices), C, H, W]."""
        images, _ = self.data.split(SPLIT).take(torch.tensor(indices))
        return normalise(images.to(self.device), self.data)


@dataclass(frozen=True)
class Scan:
    """The first images of the test split: true class, the dense model's answer, the small model's answer."""

    labels: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def changed(self) -> list[int]:
        """The images on which the two models differ."""
        return [i for i, (old, new) in enumerate(zip(self.before, self.after, strict=True)) if old != new]

    @property
    def order(self) -> list[int]:
        """All images scanned: those whose class changed first, else as they come."""
        changed = self.changed
        return changed + sorted(set(range(len(self.labels))) - set(changed))


def refuse(data: str) -> None:
    """Maps show which pixels count for the class of an image.

    Raises:
        CompressionError: the data set of this name holds no images, or its task is another.
    """
    if not attributable(data) and kind(data) is IMAGE:
        raise CompressionError(f"maps show which pixels count for an image's class, and the task of {data} is another")
    if not attributable(data):
        raise CompressionError(f"maps show which pixels count, and {data} holds {kind(data).many}, not images")


def pair(folder: RunFolder, seed: int = 0) -> Pair:
    """Restore both models of a run that is done; ``seed`` is that of the random one.

    Raises:
        CompressionError: the data are no images, the run is not done, or its packed file, dense weights or data are
            missing or damaged.
    """
    refuse(folder.budget().data)
    source = read(folder)
    random = zoo.build(source.budget.model, source.input, source.outputs, seed=seed + OTHER_WEIGHTS).eval()
    if zoo.spec(source.budget.model).family == "file":  # its function may return trained weights at every seed
        random = redrawn(random, seed + OTHER_WEIGHTS)
    return Pair(source.dense.eval(), source.model, random, source.data, source.input)


def scan(pair: Pair, limit: int) -> Scan:
    """What both models answer to the first ``limit`` test images."""
    split = pair.data.split(SPLIT)
    count = min(limit, len(split))
    before, after = ([int(i) for i in answers(model, pair, count)] for model in (pair.dense, pair.small))
    return Scan(tuple(split.labels[:count].tolist()), tuple(before), tuple(after))


@torch.no_grad()
def answers(model: nn.Module, pair: Pair, count: int) -> torch.Tensor:
    """The classes a model answers to the first ``count`` test images, int64 [count]."""
    starts = range(0, count, BATCH)
    return torch.cat([model(pair.images(list(range(i, min(i + BATCH, count))))).argmax(1) for i in starts])


def affordable(macs: float) -> int:
    """How many images to scan while somebody waits, for a dense model of so many MACs an image."""
    return int(min(MOST_SCANNED, max(FEWEST_SCANNED, SCAN_MACS // max(macs, 1.0))))
