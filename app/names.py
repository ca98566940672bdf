"""The names of models, data sets and budgets that pages show.

A page shows a title, such as ResNet-8. What is typed, or read by a program (commands, budgets, addresses, the CSV of
runs), has the name, such as ``resnet8``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from app import theme
from compression import data as datasets
from compression import owncode, zoo
from compression.budget import Budget
from compression.errors import CompressionError


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


def path(model: str) -> str:
    """Where the operator's function that builds a model is; empty for all other models."""
    return model if zoo.is_file(model) else ""


def subject(model: str, data: str) -> str:
    """Model and data in a few words: ``ResNet-8 on MNIST (5,000 digits)``."""
    return f"{model_label(model)} on {data_label(data)}"


def request(budget: Mapping[str, Any]) -> str:
    """What a budget, as a file of any version has it, asks of its method, in the method's words."""
    return _request(json.dumps(budget, sort_keys=True))


@functools.lru_cache(maxsize=4096)
def _request(text: str) -> str:
    from compression import methods

    try:
        budget = Budget.from_dict(json.loads(text))
        return methods.get(budget.method).request(budget)
    except CompressionError as error:
        return f"unreadable budget ({error.what})"


def describe(budget: Mapping[str, Any]) -> str:
    """Model, data and request: ``ResNet-8 on Fashion-MNIST, 50 % of the units removed, 4 bits a weight``."""
    return f"{subject(str(budget.get('model')), str(budget.get('data')))}, {request(budget)}"


def title(run: str, budget: Mapping[str, Any], runs: int = 0) -> str:
    """A run's method, request and the end of its id, which differs where two runs have the same request.

    ``runs``: of a sweep, the number of its runs.
    """
    text = f"sweep of {runs} runs" if runs else request(budget)
    return f"{theme.style(str(budget.get('method', ''))).label}, {text} (…{run[-4:]})"
