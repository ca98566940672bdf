"""Load a data set by name or folder, and tell in one line when it cannot be had or does not fit a model."""

from __future__ import annotations

from pathlib import Path

from compression.data import builtin
from compression.data.catalogue import info
from compression.data.catalogue import names
from compression.data.folder import load_folder
from compression.data.types import DataSet
from compression.errors import CompressionError

FOLDER_INPUT = (3, 32, 32)


def load(name: str, *, input: tuple[int, ...] | None = None) -> DataSet:
    """The data set called ``name``, or the folder of images at that path, with its three splits in memory.

    ``input`` (channels, height, width) is the size folder images are brought to (3x32x32 unless asked); the named data
    sets keep their own size, and :func:`fit_check` says when a model does not take it. Loaded once per process.

    Raises:
        CompressionError: unknown name, no network for a download, an unreadable folder or image.
    """
    if name in names():
        return builtin.load(name)
    if Path(name).expanduser().is_dir():
        return load_folder(str(Path(name).expanduser()), input or FOLDER_INPUT)
    if "/" in name or Path(name).suffix:
        raise CompressionError(
            f"data folder {name!r} does not exist; give a folder with one folder of images per class"
        )
    info(name)  # raises: unknown
    raise AssertionError(name)


def fit_check(dataset: DataSet, input: tuple[int, ...], classes: int) -> None:
    """Refuse data that do not fit a model's input (channels, height, width) or class count.

    Raises:
        CompressionError: saying what differs and which option makes them agree.
    """
    if tuple(dataset.input) != tuple(input):
        own, asked = "x".join(map(str, dataset.input)), "x".join(map(str, input))
        if len(input) != len(dataset.input):
            raise CompressionError(
                f"{dataset.name} has {dataset.kind.many} ({own}) but the model takes inputs of {asked}",
                "choose data of the model's kind (`python -m compression models`)",
            )
        raise CompressionError(f"{dataset.name} has {own} images but the model takes {asked}", f"use --input {own}")
    if len(dataset.classes) != classes:
        own = str(len(dataset.classes))
        raise CompressionError(
            f"{dataset.name} has {own} classes but the model tells {classes} apart", f"use --classes {own}"
        )
