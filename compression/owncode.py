"""A function in a user's file, ``path/to/file.py:function``: a model or a task of one's own.

Its code runs because the person at the keyboard named it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.reading import expanded

MARK = ".py:"


def is_own(name: str) -> bool:
    """Whether a name is that of a function in a file."""
    return MARK in name


def divided(name: str) -> tuple[Path, str]:
    """The absolute path of the file, and the name of the function."""
    path, _, function = name.rpartition(":")
    return expanded(path).resolve(), function


def absolute(name: str) -> str:
    """The same function by a name that is valid in every working folder."""
    path, function = divided(name)
    return f"{path}:{function}"


def function(name: str, what: str = "model") -> Callable[..., Any]:
    """The function; its file is imported once for each state of it.

    ``what`` it returns is named in refusals.

    Raises:
        CompressionError: the file does not exist, fails when imported, or has no such function.
    """
    check_file(name, what)
    path, called = divided(name)
    return _function(str(path), called, what, path.stat().st_mtime_ns)


def check_file(name: str, what: str = "model") -> None:
    """Refuse a name whose file does not exist; nothing in it is run.

    Raises:
        CompressionError: naming the file.
    """
    path, _ = divided(name)
    if not path.is_file():
        raise CompressionError(f"{what} file {path} does not exist")


@lru_cache(maxsize=16)
def _function(path: str, name: str, what: str, changed: int) -> Callable[..., Any]:
    module_name = f"{what}_{Path(path).stem}_{abs(hash((path, changed))):x}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise CompressionError(f"{what} file {path} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # where dataclasses look their own module up
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise CompressionError(f"{what} file {path} fails when imported: {first_line(error)}") from error
    call = getattr(module, name, None)
    if not callable(call):
        raise CompressionError(f"{what} file {path} has no function {name!r}")
    return call


def first_line(error: Exception) -> str:
    """What a user's code raised, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
