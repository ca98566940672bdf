"""Public names of a package that are imported when they are first used (PEP 562), so that the package is light.

A package lists them again under ``TYPE_CHECKING``, for type checkers and editors::

    if TYPE_CHECKING:
        from compression.graph.slim import slim
    else:
        __getattr__, __dir__ = on_first_use(__name__, {"slim": "compression.graph.slim"})
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

from compression import home


def on_first_use(
    package: str, objects: Mapping[str, str], modules: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of ``package``: name → the module that has an object, or that is meant itself."""
    modules = modules or {}

    def get(name: str) -> object:
        with home.optional():
            if name in objects:
                return getattr(importlib.import_module(home.module(objects[name])), name)
            if name in modules:
                return importlib.import_module(home.module(modules[name]))
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *objects, *modules})

    return get, names
