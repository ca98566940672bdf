"""What an object of this library looks like where it is the last line of a notebook's cell, and when it is printed."""

from __future__ import annotations

import importlib
from typing import Any

from compression import home


class Represented:
    """Of a class that notebooks draw as HTML, and everybody else as a few lines of text.

    The drawing is in :mod:`compression.widgets`, above all others, and is imported when it is first needed.
    ``_repr_mimebundle_`` is what IPython and VS Code ask for, ``_repr_html_`` what others do, such as marimo.
    """

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle: dict[str, str] = _drawing().mimebundle(self)
        return bundle

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()["text/html"]

    def __str__(self) -> str:
        return self._repr_mimebundle_()["text/plain"]

    def __repr__(self) -> str:
        return str(self)


def _drawing() -> Any:
    return importlib.import_module(home.module("compression.widgets.rich"))
