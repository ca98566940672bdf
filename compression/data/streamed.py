"""Images that do not fit into memory: decoded when a batch asks for them, by a few threads, one batch ahead.

A batch is asked for by the positions of its examples, so that a run goes on in the middle of an epoch exactly as it
would have with all images in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from compression.data.types import Split

LARGE = 1 << 30  # bytes of images that are always kept in memory, if they fit
SHARE = 0.4  # of the free memory that images may take
THREADS = 4
Read = Callable[[Path], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Streamed(Split):
    """A split whose images stay in their files: only ``labels`` [N, …] are in memory, and ``images`` is ``None``.

    ``paths``: the files as text [N]; ``read`` returns one image, uint8 of ``shape``; what it raises ends the batch that
    asked for it.
    """

    paths: NDArray[np.str_]
    read: Read
    shape: tuple[int, ...]
    _ahead: dict[tuple[int, ...], Future[torch.Tensor]] = field(default_factory=dict)

    def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The examples at these positions, read now unless :meth:`ask` did."""
        ahead = self._ahead.pop(tuple(indices.tolist()), None)
        images = self._images(indices) if ahead is None else ahead.result()
        return images, self.labels[indices]

    def ask(self, indices: torch.Tensor) -> None:
        """Begin to read these examples, which are needed next; what was asked for before and not taken is forgotten."""
        self._ahead.clear()
        self._ahead[tuple(indices.tolist())] = _background().submit(self._images, indices)

    def subset(self, indices: torch.Tensor) -> Streamed:
        """The examples at these positions."""
        return Streamed(None, self.labels[indices], self.paths[indices.numpy()], self.read, self.shape)

    @property
    def input(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return self.shape

    @property
    def of_images(self) -> bool:
        """They are."""
        return True

    def digest(self, total: Any) -> None:
        """Names, sizes and times of change of the files, and the labels: nothing is decoded."""
        for path in self.paths:
            about = os.stat(path)
            total.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
        total.update(hashlib.sha256(self.labels.contiguous().numpy().tobytes()).digest())

    def _images(self, indices: torch.Tensor) -> torch.Tensor:
        paths = [Path(path) for path in self.paths[indices.numpy()]]
        return torch.from_numpy(np.stack(list(_decoders().map(self.read, paths))))


def fits(count: int, shape: tuple[int, ...]) -> bool:
    """Whether so many images of this shape are better kept in memory, where reading them once is enough."""
    needed = 2 * count * int(np.prod(shape))  # once more while they are divided into splits
    return needed <= max(LARGE, int(SHARE * psutil.virtual_memory().available))


@cache
def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="decode")


@cache
def _background() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="ahead")
