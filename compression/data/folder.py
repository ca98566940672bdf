"""A folder of images in class folders as a data set."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from compression.data.files import fits, gathered
from compression.data.layout import SPLIT_FOLDERS
from compression.data.pictures import MODES, Span, read, shown
from compression.data.splits import VALIDATION_SHARE, hold_out, shuffled
from compression.data.types import IMAGE, DataSet, Split
from compression.errors import CompressionError
from compression.preprocess import Preprocess

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MOMENTS = {1: ((0.449,), (0.226,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}  # ImageNet's, grey: their mean
TEST_SHARE = 0.1
AS_THEY_ARE = Preprocess()
Listed = list[tuple[Path, int]]


@lru_cache(maxsize=2)
def load_folder(path: str, input: tuple[int, ...], how: Preprocess = AS_THEY_ARE) -> DataSet:
    """Read ``path``: one folder of images per class, or ``train/``, ``val/`` and ``test/`` folders of these.

    Missing splits are taken from train, stratified, with a fixed seed: 80/10/10 of a plain folder. Images
    are scaled so that the shorter side fits ``input`` (channels, height, width) and cut to its middle, unless ``how``
    says otherwise, and turned grey or RGB by its channel count (1 or 3); see :mod:`compression.data.pictures`. Images
    that do not fit into memory stay in their files (:mod:`compression.data.files`).

    Raises:
        CompressionError: naming the unreadable folder or image, or the missing part.
    """
    root, (mean, std) = Path(path), moments(input, how)
    listings, classes = _listings(root)
    in_memory = fits(sum(map(len, listings.values())), input)
    for name, listing in listings.items():
        if not listing:
            raise CompressionError(
                f"{shown(root)}: no images for the {name} split; known are {' '.join(sorted(SUFFIXES))} files"
            )
    span = Span([image for listing in listings.values() for image, _ in listing], how.range)
    parts: dict[str, Any] = divided(
        {name: shuffled(_read(listing, input, how, span, in_memory)) for name, listing in listings.items()}
    )
    _complete(root, parts, classes)
    return DataSet(
        path, root.resolve().name, classes, mean=mean, std=std, augment="shift", kind=IMAGE,
        scaling=replace(how, mean=None, std=None, range=span.used).to_dict(), **parts,
    )  # fmt: skip


def moments(input: tuple[int, ...], how: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel: those of ``how``, else ImageNet's.

    Raises:
        CompressionError: ``input`` has neither one channel nor three, or ``how`` another number of them.
    """
    if input[0] not in MODES:
        raise CompressionError(f"image folders give 1 (grey) or 3 (RGB) channels, not {input[0]}", "use --input 3xHxW")
    usual, given = MOMENTS[input[0]], how.moments(input[0])
    return given[0] or usual[0], given[1] or usual[1]


def complete(root: Path, parts: dict[str, Split]) -> dict[str, Split]:
    """The splits, of which none is empty.

    Raises:
        CompressionError: naming the one that is.
    """
    for name, split in parts.items():
        if len(split) == 0:
            raise CompressionError(f"{shown(root)}: no images for the {name} split; give at least 3 images")
    return parts


def divided(parts: dict[str, Split]) -> dict[str, Split]:
    """All three splits: missing ones are held out of train, which may be empty."""
    if len(parts["train"]) == 0:
        return {name: parts.get(name, parts["train"]) for name in SPLIT_FOLDERS}
    share = VALIDATION_SHARE
    if "test" not in parts:
        parts["train"], parts["test"] = hold_out(parts["train"], TEST_SHARE)
        share = VALIDATION_SHARE / (1 - TEST_SHARE)
    if "validation" not in parts:
        parts["train"], parts["validation"] = hold_out(parts["train"], share)
    return parts


def _listings(root: Path) -> tuple[dict[str, Listed], tuple[str, ...]]:
    """The image files of each split the folder has, with the class names (sorted; those of the training part)."""
    parted = "train" in _folders(root) and bool(_folders(root / "train"))
    homes = split_folders(root) if parted else {"train": root}
    classes = tuple(_folders(homes["train"]))
    if len(classes) < 2:
        raise CompressionError(f"{shown(root)} must hold one folder of images for each of at least two classes")
    return {part: _listing(home, classes) for part, home in homes.items()}, classes


def split_folders(root: Path) -> dict[str, Path]:
    """Split → its folder, of those that are there."""
    return {part: root / name for part, named in SPLIT_FOLDERS.items() for name in named if (root / name).is_dir()}


def _folders(root: Path) -> list[str]:
    try:
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise CompressionError(f"image folder {shown(root)} cannot be read: {error.strerror or error}") from error
    for name in names:
        if any(character < " " or "\ud800" <= character <= "\udfff" for character in name):
            raise CompressionError(f"{shown(root)}: the folder {shown(name)} cannot name a class: rename it")
    return names


def _listing(home: Path, classes: tuple[str, ...]) -> Listed:
    for name in _folders(home):
        if name not in classes:
            raise CompressionError(f"{shown(home / name)}: the training part has no class of this name")
    return [(path, label) for label, name in enumerate(classes) for path in image_files(home / name)]


def image_files(folder: Path) -> list[Path]:
    """The picture files at any depth, by suffix, sorted; hidden ones are skipped."""

    def unreadable(error: OSError) -> None:
        raise CompressionError(
            f"image folder {shown(error.filename or folder)} cannot be read: {error.strerror or error}"
        ) from error

    paths = []
    if folder.is_dir():
        for place, folders, files in os.walk(folder, onerror=unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths += [Path(place) / name for name in files if not name.startswith(".")]
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)


def _read(listing: Listed, input: tuple[int, ...], how: Preprocess, span: Span, in_memory: bool) -> Split:
    labels = torch.tensor([label for _, label in listing], dtype=torch.long)
    read_one = partial(read, input=input, how=how, span=span)
    return Split(gathered([(path,) for path, _ in listing], read_one, input, in_memory), labels)


def _complete(root: Path, parts: dict[str, Split], classes: tuple[str, ...]) -> None:
    complete(root, parts)
    for label, name in enumerate(classes):
        if not bool((parts["train"].labels == label).any()):
            raise CompressionError(
                f"{shown(root)}: class {name!r} has no images to train on; give it at least 3 images"
            )
