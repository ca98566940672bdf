"""The loader that bundles carry, as its functions by name."""

from __future__ import annotations

from typing import Any

from compression.export import standalone


def loader() -> dict[str, Any]:
    """What ``load.py`` defines, for tests that decode with nothing but it."""
    names: dict[str, Any] = {"__file__": "load.py", "__name__": "load"}
    exec(compile(standalone.program(), "load.py", "exec"), names)
    return names
