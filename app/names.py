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
from compression import zoo
from compression.budget import Budget
from compression.errors import CompressionError
from compression.plots.titles import data_label, model_label


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
