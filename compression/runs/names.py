"""A budget as it leaves this machine: names of files and folders without where they lie, and back again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from compression import data as data_sets
from compression import owncode, zoo
from compression.budget import Budget
from compression.data.catalogue import of_file
from compression.reading import expanded


def shared(budget: Budget) -> Budget:
    """The budget with names in the place of paths: whoever gets it has other folders, and need not know these."""
    changes: dict[str, str] = {"model": model_name(budget.model), "data": data_name(budget.data)}
    if budget.weights is not None:
        changes["weights"] = _last(budget.weights)
    return budget.replace(**changes)


def model_name(model: str) -> str:
    """``net.py:function`` of a function in a file; every other model is a name already."""
    return _file_name(model) if zoo.is_file(model) else model


def _file_name(name: str) -> str:
    path, _, function = name.rpartition(":")
    return f"{_last(path)}:{function}"


def data_name(data: str) -> str:
    """A data set's name; of a folder the last part; a picture, text or function without the folder of its file.

    A folder called as a data set is ``./NAME``.
    """
    if owncode.is_own(data):
        return _file_name(data)
    if of_file(data):
        prefix, colon, file = data.partition(":")
        return f"{prefix}{colon}{_last(file)}"
    if data in data_sets.names() or not (_is_path(data) or Path(data).is_dir()):
        return data
    name = _last(data)
    return f"./{name}" if name in data_sets.names() else name


def matching(name: str, paths: Iterable[str]) -> str:
    """The one of the ``paths`` (of models or folders) that a shared name means; the name itself if none or several."""
    candidates = [path for path in paths if path.replace(os.sep, "/").rsplit("/", 1)[-1] == _last(name)]
    return candidates[0] if len(candidates) == 1 else name


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text


def _last(path: str) -> str:
    """The last part of a path, whichever system wrote it."""
    name = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return name if name not in ("", ".", "..", "~") else expanded(path).resolve().name
