"""The method of ``docs/adding-a-method.md``, registered for the length of a test module as one new file."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from compression import methods

ROOT = Path(__file__).resolve().parents[2]


def source() -> str:
    """The first Python block of the page."""
    text = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]


@contextlib.contextmanager
def registered(folder: Path) -> Iterator[str]:
    """Write the method into ``folder/hello.py``, beside the others; gives its name."""
    (folder / "hello.py").write_text(source(), encoding="utf-8")
    methods.__path__.append(str(folder))
    importlib.invalidate_caches()
    methods.all_methods.cache_clear()
    try:
        yield "hello"
    finally:
        methods.__path__.remove(str(folder))
        sys.modules.pop("compression.methods.hello", None)
        methods.all_methods.cache_clear()
