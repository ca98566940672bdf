"""A folder of images and of their masks as a data set: ``images/`` and ``masks/``, files of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compression.data.files import fits, gathered
from compression.data.folder import AS_THEY_ARE, complete, divided, image_files, moments, split_folders
from compression.data.layout import IMAGES, MASKS
from compression.data.pictures import Span, fitted, opened, read, shown, size_of
from compression.data.splits import shuffled
from compression.data.types import IGNORED, SEGMENTATION, DataSet, Split
from compression.errors import CompressionError
from compression.preprocess import Preprocess

NAMES = "classes.txt"
NUMBERED = ("1", "L", "P")  # Pillow's modes of at most 8 bits, of which each value is a class number
Pairs = list[tuple[Path, Path]]
Reader = Callable[..., NDArray[np.uint8]]


@lru_cache(maxsize=2)
def load_masks(path: str, input: tuple[int, ...], how: Preprocess = AS_THEY_ARE) -> DataSet:
    """Read ``path`` with its folders ``images/`` and ``masks/``, or with ``train/``, ``val/`` and ``test/`` of these.

    The values of a mask (grey or palette) are class numbers, 255 is a pixel that does not count; masks of nothing but 0
    and 255 are of two classes. Names of classes are the lines of ``classes.txt``, if there is one. Masks are scaled and
    cut like their images, without interpolation; missing splits are taken from train.

    Raises:
        CompressionError: naming the image without a mask, the mask without an image or of another size, or the file
            that cannot be read.
    """
    root, (mean, std) = Path(path), moments(input, how)
    homes = {"train": root} if (root / IMAGES).is_dir() else split_folders(root)
    listings = {name: _pairs(home) for name, home in homes.items()}
    in_memory = fits(sum(map(len, listings.values())), (input[0] + 1, *input[1:]))
    numbers = _numbers(mask for pairs in listings.values() for _, mask in pairs)
    span = Span([image for pairs in listings.values() for image, _ in pairs], how.range)
    readers = partial(read, input=input, how=how, span=span), partial(read_mask, input, how, numbers == {0, IGNORED})
    pools = {name: shuffled(_read(pairs, readers, input, in_memory)) for name, pairs in listings.items()}
    parts: dict[str, Any] = {**complete(root, divided(pools))}
    return DataSet(
        path, root.resolve().name, _classes(root, numbers), mean=mean, std=std, augment="shift",
        scaling=replace(how, mean=None, std=None, range=span.used).to_dict(), task=SEGMENTATION, **parts,
    )  # fmt: skip


def _pairs(home: Path) -> Pairs:
    """Every image with its mask: the file of the same path below ``masks/``, whatever its suffix."""
    images, masks = (_by_name(home / kind) for kind in (IMAGES, MASKS))
    for name in sorted(images.keys() ^ masks.keys()):
        here, other = (images, MASKS) if name in images else (masks, IMAGES)
        raise CompressionError(f"{shown(here[name])} has no file of the same name in {shown(home / other)}")
    return [(images[name], masks[name]) for name in sorted(images)]


def _by_name(home: Path) -> dict[Path, Path]:
    files: dict[Path, Path] = {}
    for file in image_files(home):
        other = files.setdefault(file.relative_to(home).with_suffix(""), file)
        if other != file:
            raise CompressionError(f"{shown(other)} and {shown(file)} have the same name: remove one of them")
    return files


def _read(pairs: Pairs, readers: tuple[Reader, Reader], input: tuple[int, ...], in_memory: bool) -> Split:
    images = gathered([(image,) for image, _ in pairs], readers[0], input, in_memory)
    return Split(images, gathered(pairs, readers[1], input[1:], in_memory))


def read_mask(input: tuple[int, ...], how: Preprocess, foreground: bool, image: Path, path: Path) -> NDArray[np.uint8]:
    """The class numbers of a mask, uint8 [H, W], brought to ``input`` like its image; ``foreground``: 255 is class 1.

    Raises:
        CompressionError: naming the file, which is in colours or of another size than its image.
    """
    with opened(path) as file:
        if file.mode not in NUMBERED:
            raise CompressionError(
                f"mask {shown(path)} is of mode {file.mode}: save it with one number of 8 bits a pixel, its class"
            )
        height, width = size_of(image)
        if (file.height, file.width) != (height, width):
            raise CompressionError(
                f"mask {shown(path)} has {file.width}x{file.height} pixels and its image {width}x{height}"
            )
        numbers = Image.fromarray(np.asarray(file, np.uint8) * (1 if file.mode != "1" else IGNORED))
        size = input[2], input[1]
        mask = np.asarray(fitted(numbers, size, replace(how, interpolation="nearest")), np.uint8)
        return (mask > 0).astype(np.uint8) if foreground else mask


def _numbers(paths: Iterable[Path]) -> set[int]:
    """Every value of the masks; black and white ones of one bit have 0 and 255."""
    numbers: set[int] = set()
    for path in paths:
        with opened(path) as file:
            numbers.update(np.unique(np.asarray(file)).tolist() if file.mode != "1" else (0, IGNORED))
    return numbers


def _highest(numbers: set[int]) -> int:
    return 1 if numbers == {0, IGNORED} else max(numbers - {IGNORED}, default=0)


def _classes(root: Path, numbers: set[int]) -> tuple[str, ...]:
    highest, names = _highest(numbers), class_names(root)
    if not names:
        names = tuple(f"class {number}" for number in range(highest + 1))
    if highest >= len(names):
        raise CompressionError(f"{shown(root)}: masks have the class {highest}, and {NAMES} names {len(names)} classes")
    if len(names) < 2:
        raise CompressionError(f"{shown(root)}: masks must tell at least two classes apart, 0 and 1")
    return names


def count_classes(root: Path) -> int:
    """How many classes a folder tells apart, without its images: those named, else one more than the highest number.

    Raises:
        CompressionError: a mask cannot be read.
    """
    if names := class_names(root):
        return len(names)
    homes = {"train": root} if (root / MASKS).is_dir() else split_folders(root)
    masks = (path for home in homes.values() for path in image_files(home / MASKS))
    return max(2, _highest(_numbers(masks)) + 1)


def class_names(root: Path) -> tuple[str, ...]:
    """The lines of ``classes.txt``; none where there is no such file.

    Raises:
        CompressionError: it cannot be read.
    """
    path = root / NAMES
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CompressionError(f"{shown(path)} cannot be read: {error}") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    for number, name in enumerate(names):
        if not name or not name.isprintable():
            raise CompressionError(
                f"{shown(path)}: line {number + 1}, the name of class {number}, is empty or unprintable"
            )
    return names
