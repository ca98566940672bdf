"""Commands for people to type: every word quoted for the shell, so that a copied line means what it shows."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compression import home


def line(*words: str, python: str = "python", options: Mapping[str, Any] | None = None) -> str:
    """A command of this project: ``words`` (``train``, ``resume RUN``), then ``options`` that are not ``None``."""
    typed = [word for name, value in (options or {}).items() if value is not None for word in option(name, str(value))]
    return shlex.join([*([home.PROJECT] if home.INSTALLED else [python, "-m", home.PACKAGE]), *words, *typed])


def option(name: str, value: str) -> list[str]:
    """``--name value``; as one word where the value itself begins like an option."""
    flag = f"--{name.replace('_', '-')}"
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


def app(*words: str) -> str:
    """The command that starts the app with these arguments, quoted for the shell and, in a checkout, for make."""
    if home.INSTALLED:
        return shlex.join([home.PROJECT, "app", *words])
    return f"make app ARGS={shlex.quote(shlex.join(words).replace('$', '$$'))}"


def interpreter() -> str:
    """How to type this Python at the project's root: the one in ``.venv`` where it runs, else ``python``."""
    inside = Path(sys.prefix) == home.ROOT / ".venv"
    return ".venv/bin/python" if inside else "python"
