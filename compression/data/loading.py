"""Load a data set by name or folder; refuse in one line when it is unavailable or does not fit a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression import home
from compression.data import builtin, coco, masks
from compression.data.catalogue import PICTURE_PREFIX, TEXT_PREFIX, folder_of
from compression.data.folder import load_folder
from compression.data.layout import annotation_files, holds_masks
from compression.data.passages import load_text
from compression.data.types import TEXT, DataSet
from compression.errors import CompressionError
from compression.preprocess import Preprocess

FOLDER_INPUT = (3, 32, 32)


def load(name: str, *, input: tuple[int, ...] | None = None, preprocess: Mapping[str, Any] | None = None) -> DataSet:
    """The data set ``name``, a picture ``picture:FILE``, a text ``text:FILE``, or the folder at that path: images in
    class folders, or images with their masks or boxes.

    ``input`` (channels, height, width) is the size that folder images are scaled to (default 3x32x32); the named data
    sets have a fixed size, and :func:`fit_check` refuses a model of another. Loaded once per process.
    ``preprocess`` overrides how images are scaled, cropped and normalised (see :mod:`compression.preprocess`).

    Raises:
        CompressionError: unknown name, no network for a download, an unreadable folder or image, or a preprocessing
            that does not apply to these data.
    """
    how = Preprocess.read(preprocess)
    if name.startswith(PICTURE_PREFIX):
        from compression.data.picture import load_picture

        if how.mean is not None or how.std is not None:
            raise CompressionError(
                f"preprocess: colours of {name} are the answers and are not normalised: leave it out"
            )
        return load_picture(name, how)
    if name.startswith(TEXT_PREFIX):
        if how != Preprocess():
            raise CompressionError(f"preprocess is for images, and {name} is a text: leave it out")
        return load_text(name)
    folder = folder_of(name)
    if folder is not None:
        if input is not None and len(input) != len(FOLDER_INPUT):
            size = "x".join(map(str, input))
            raise CompressionError(f"{name} is a folder of images, and the model takes inputs of {size}")
        boxes = coco.load_coco if annotation_files(folder) else load_folder
        read = masks.load_masks if holds_masks(folder) else boxes
        return read(str(folder), input or FOLDER_INPUT, how)
    dataset = builtin.load(name)
    if dataset.kind is TEXT and how != Preprocess():
        raise CompressionError(f"preprocess is for images, and {name} holds {dataset.kind.many}: leave it out")
    if how.geometry:
        raise CompressionError(
            f"preprocess: {name} keeps the size and values of its images; only mean and std can be said for it"
        )
    mean, std = how.moments(dataset.input[0])
    return dataclasses.replace(dataset, mean=mean or dataset.mean, std=std or dataset.std) if how.to_dict() else dataset


def count_classes(folder: Path) -> int:
    """How many classes a folder tells apart: its class folders, or those of its masks or boxes.

    Raises:
        CompressionError: it cannot be read.
    """
    if holds_masks(folder):
        return masks.count_classes(folder)
    if annotation_files(folder):
        return coco.count_categories(folder)
    return sum(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())


def fit_check(dataset: DataSet, input: tuple[int, ...], classes: int, task: str | None = None) -> None:
    """Refuse data that do not match a model's input (channels, height, width), class count, or ``task``.

    Raises:
        CompressionError: naming the difference and the option that resolves it.
    """
    if task not in (None, "", dataset.task):
        raise CompressionError(
            f"the task of {dataset.name} is {dataset.task}, and the model is for {task}",
            f"choose data of the model's task (`{home.PROGRAM} models`)",
        )
    if tuple(dataset.input) != tuple(input):
        own, needed = "x".join(map(str, dataset.input)), "x".join(map(str, input))
        if len(input) != len(dataset.input) or len(input) == 1:
            raise CompressionError(
                f"{dataset.name} has {dataset.kind.many} ({own}) but the model takes inputs of {needed}",
                f"choose data of the model's kind (`{home.PROGRAM} models`)",
            )
        raise CompressionError(f"{dataset.name} has {own} images but the model takes {needed}", f"use --input {own}")
    if len(dataset.classes) != classes:
        own = str(len(dataset.classes))
        raise CompressionError(
            f"{dataset.name} has {own} classes but the model tells {classes} apart", f"use --classes {own}"
        )
