"""The methods: each turns (model, graph, data, budget) into a compressed model, with the same verbs."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from compression.errors import CompressionError
from compression.methods.base import Compressed, Method, Reporter, Task

__all__ = ["Compressed", "Method", "Reporter", "Task", "all_methods", "get"]


@cache
def all_methods() -> dict[str, Method]:
    """Every method by name: the ``METHOD`` of each module or package in this folder, so that a new file is enough."""
    found: dict[str, Method] = {}
    for entry in pkgutil.iter_modules(__path__):
        method = getattr(importlib.import_module(f"{__name__}.{entry.name}"), "METHOD", None)
        if method is not None:
            found[method.name] = method
    return found


def names() -> tuple[str, ...]:
    """Names of all methods."""
    return tuple(all_methods())


def get(name: str) -> Method:
    """The method of this name.

    Raises:
        CompressionError: there is none; the message lists those there are.
    """
    if name not in all_methods():
        raise CompressionError(f"unknown method {name!r}; known: {', '.join(names())}")
    return all_methods()[name]
