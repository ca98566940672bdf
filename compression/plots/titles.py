"""The titles of models and data sets that people read; where something is typed, it has its name."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from compression import data as datasets
from compression import owncode, zoo


def model_label(model: str) -> str:
    """What a model is called on every page.

    One of the zoo by its title without what follows the comma, which stays where two would be called the same; one of
    another package by that and its name there; a function of the operator's by its file's last part and its own name.
    """
    if zoo.is_file(model):
        return _function(model)
    package, colon, name = model.partition(":")
    if package == "hf" and colon:
        return f"Hugging Face: {_hugging_face().get(name, name)}"
    return _zoo().get(model) or (f"{package}: {name}" if colon else model)


@functools.cache
def _zoo() -> dict[str, str]:
    return shortened({name: zoo.spec(name).title for name in zoo.names()})


@functools.cache
def _hugging_face() -> dict[str, str]:
    from compression.zoo.extra import ARCHITECTURES

    return shortened({name: known.title for name, known in ARCHITECTURES.items()})


def shortened(titles: Mapping[str, str]) -> dict[str, str]:
    """Titles without what follows their first comma; it is in brackets where another title begins the same."""
    heads = {name: title.partition(", ")[0] for name, title in titles.items()}
    alike = [name for name, head in heads.items() if list(heads.values()).count(head) > 1 and head != titles[name]]
    return heads | {name: "{} ({})".format(*titles[name].split(", ", 1)) for name in alike}


def _function(path: str) -> str:
    file, _, function = path.rpartition(":")
    return f"{file.rpartition('/')[2]}: {function}"


def data_label(data: str) -> str:
    """What a data set is called on every page.

    One known by name has its title; a folder or file is called by its last part, a task of the operator's as a model.
    """
    if owncode.is_own(data):
        return _function(data)
    if data in datasets.names():
        return datasets.info(data).title
    return data.rstrip("/").rpartition("/")[2] or data
