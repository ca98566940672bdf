"""Images that do not fit into memory: decoded when a batch asks for them, by a few threads, one batch ahead.

They stand in the place of a tensor in a :class:`compression.data.types.Split`. A batch is asked for by the positions of
its examples, so that a run goes on in the middle of an epoch exactly as it would have with all images in memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

LARGE = 1 << 30  # bytes of images that are always kept in memory, if they fit
SHARE = 0.4  # of the free memory that images may take
THREADS = 4
Paths = NDArray[np.str_]


class Files:
    """As a tensor uint8 [N, \\*shape] whose rows are read from files: ``files[indices]`` is a tensor of those rows.

    ``paths`` [N, k] are the k files that a row is made of; ``read`` makes one of them, and what it raises ends the
    batch that asked for it.
    """

    dtype = torch.uint8

    def __init__(self, paths: Paths, read: Callable[..., NDArray[np.uint8]], shape: tuple[int, ...]) -> None:
        self.paths, self.read = paths, read
        self.shape = (len(paths), *shape)
        self._ahead: dict[tuple[int, ...], Future[torch.Tensor]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def dim(self) -> int:
        """As a tensor has it."""
        return len(self.shape)

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        """The rows at these positions (int64 [B]), read now unless :meth:`ask` did."""
        ahead = self._ahead.pop(tuple(indices.tolist()), None)
        return self._rows(indices) if ahead is None else ahead.result()

    def ask(self, indices: torch.Tensor) -> None:
        """Begin to read these rows, which are needed next; what was asked for before and not taken is forgotten."""
        self._ahead.clear()
        self._ahead[tuple(indices.tolist())] = _background().submit(self._rows, indices)

    def subset(self, indices: torch.Tensor) -> Files:
        """The rows at these positions, unread."""
        return Files(self.paths[indices.numpy()], self.read, self.shape[1:])

    def digest(self, total: Any) -> None:
        """Add names, sizes and times of change of the files to a hash: nothing is decoded."""
        for path in self.paths.flat:
            about = os.stat(path)
            total.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())

    def _rows(self, indices: torch.Tensor) -> torch.Tensor:
        rows = [tuple(map(Path, row)) for row in self.paths[indices.numpy()]]
        return torch.from_numpy(np.stack(list(_decoders().map(lambda row: self.read(*row), rows))))


def gathered(
    paths: Sequence[Sequence[Path]], read: Callable[..., NDArray[np.uint8]], shape: tuple[int, ...], in_memory: bool
) -> torch.Tensor | Files:
    """The rows that ``read`` makes of the files of each: a tensor uint8 [N, \\*shape], or read when they are needed."""
    if not in_memory:
        return Files(np.array([[str(path) for path in row] for row in paths]), read, shape)
    rows = np.empty((len(paths), *shape), np.uint8)
    for index, row in enumerate(paths):
        rows[index] = read(*row)
    return torch.from_numpy(rows)


def fits(count: int, shape: tuple[int, ...]) -> bool:
    """Whether so many images of this shape are better kept in memory, where reading them once is enough."""
    needed, free = 2 * count * math.prod(shape), psutil.virtual_memory().available  # twice while they are divided
    return needed <= max(min(LARGE, free), int(SHARE * free))


@cache
def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="decode")


@cache
def _background() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="ahead")
