"""Short names of models, data sets and budgets, for titles, links and tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from app import theme
from compression import owncode
from compression.budget import Budget
from compression.errors import CompressionError


def model_label(model: str) -> str:
    """A model's short name: a function of the operator's by its file's last part and its own name."""
    file, _, function = model.rpartition(":")
    return f"{file.rpartition('/')[2]}: {function}" if file.endswith(".py") else model


def data_label(data: str) -> str:
    """A data set's short name: folders by their last part, tasks of the operator's as models."""
    if owncode.is_own(data):
        return model_label(data)
    return data.rstrip("/").rpartition("/")[2] or data


def subject(model: str, data: str) -> str:
    """Model and data in a few words: ``resnet8 on mnist5k``."""
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
    """Model, data and request: ``resnet8 on mnist5k, 50 % of the units removed, 4 to 8 bits a weight``."""
    return f"{subject(str(budget.get('model')), str(budget.get('data')))}, {request(budget)}"


def title(run: str, budget: Mapping[str, Any], runs: int = 0) -> str:
    """A run's method, request and the end of its id, which differs where two runs have the same request.

    ``runs``: of a sweep, the number of its runs.
    """
    text = f"sweep of {runs} runs" if runs else request(budget)
    return f"{theme.style(str(budget.get('method', ''))).label}, {text} (…{run[-4:]})"
