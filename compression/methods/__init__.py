"""The methods: each turns (network, data, budget) into a compressed network, with the same verbs.

A method is a module or package of this folder with an object ``METHOD``, or an entry point of the group
``compression_explorer.methods`` that names such an object.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from compression.asks import STANDARD
from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.reading import short

__all__ = [
    "Compressed", "Info", "Method", "Reporter", "Setup", "Stage", "all_methods", "default", "get", "names", "of_budget",
    "with_values",
]  # fmt: skip

ENTRY_POINTS = "compression_explorer.methods"


@cache
def all_methods() -> dict[str, Method]:
    """Every method by name, in the order of their slots.

    Raises:
        CompressionError: two methods of one name, or an entry point that is no method.
    """
    modules = (importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__))
    methods: list[Method] = [module.METHOD for module in modules if hasattr(module, "METHOD")]
    for point in entry_points(group=ENTRY_POINTS):
        method = point.load()
        if not isinstance(method, Method):
            raise CompressionError(f"entry point {point.name} of {ENTRY_POINTS} is no Method: {point.value}")
        methods.append(method)
    by_name: dict[str, Method] = {}
    for method in sorted(methods, key=lambda method: method.info.slot):
        if method.info.name in by_name:
            raise CompressionError(f"two methods have the name {method.info.name!r}: rename or remove one")
        by_name[method.info.name] = method
    return by_name


def names() -> tuple[str, ...]:
    """Names of all methods, the usual one first."""
    return tuple(all_methods())


def default() -> str:
    """The name of the method that is meant where none is named."""
    return names()[0]


def get(name: str) -> Method:
    """The method of this name; the usual one for an empty name.

    Raises:
        CompressionError: there is none; the message lists those there are.
    """
    name = name or default()
    if name not in all_methods():
        raise CompressionError(f"unknown method {name!r}; known: {', '.join(names())}")
    return all_methods()[name]


def of_budget(budget: Budget) -> tuple[Method, Budget]:
    """The method of a budget, and the budget with every ask of the method written out.

    Raises:
        CompressionError: there is no such method, a value or option it cannot have, or an ask that no method has.
    """
    method = get(budget.method)
    known = dict.fromkeys([*STANDARD, *(ask.field for each in all_methods().values() for ask in each.asks)])
    for field in budget.asks:
        if field not in known:
            raise CompressionError(f"asks: no method asks for {short(field)}; known: {', '.join(known)}")
    method.check_budget(budget)
    return method, method.complete(budget)


def with_values(budget: Budget, options: Mapping[str, Any]) -> Budget:
    """The budget with values of command-line options such as ``--bits``, as its method reads them.

    Raises:
        CompressionError: an unknown method, or a value that it cannot have.
    """
    method = get(budget.method)
    method.check_options(*options)
    for option, value in options.items():
        budget = method.put(budget, option, value)
    return budget
