"""The wheel: the files of the checkout under the one name ``compression_explorer``.

``compression/`` becomes ``compression_explorer/``, with ``app/``, ``lessons/``, ``pages/`` and what they read beside it
inside that folder, so that nothing else appears among the installed packages. Only import statements are changed;
whatever names a module in a string goes through ``compression/home.py``. Why: docs/ARCHITECTURE.md, "Installed".
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "compression_explorer"
NAMES = {"compression": PACKAGE, **{name: f"{PACKAGE}.{name}" for name in ("app", "lessons", "pages")}}
"""Package of the checkout → its name in the wheel."""
FOLDERS = {
    "compression": "", "app": "app", "lessons": "lessons", "pages": "pages", ".streamlit": "app/.streamlit",
    "assets/components": "assets/components", "assets/fonts": "assets/fonts", "assets/gallery": "assets/gallery",
    "assets/report": "assets/report", "assets/site": "assets/site", "assets/theme": "assets/theme",
    "assets/weights": "assets/weights", "docs/derivations": "docs/derivations",
}  # fmt: skip
"""Folder of the checkout → its place in the package."""
STARTS = "dense*.safetensors"
"""What the gallery's scripts train from; the app shows what came of it, and needs none of them."""


class BuildHook(BuildHookInterface[Any]):
    """Fills the wheel; of a source archive the files are taken as they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Lay out the package in a temporary folder and have the wheel made of that."""
        if version == "editable":
            raise SystemExit(
                "an editable installation would need the imports of the installed name in the checkout: work in the "
                "checkout itself (python -m compression, make app), or install it with `pip install .`"
            )
        self._folder = tempfile.TemporaryDirectory()
        lay_out(Path(self.root), Path(self._folder.name))
        build_data["force_include"][self._folder.name] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder."""
        self._folder.cleanup()


def lay_out(root: Path, package: Path) -> None:
    """Copy the checkout at ``root`` to ``package``, its imports renamed."""
    for source, place in FOLDERS.items():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", STARTS)
        shutil.copytree(root / source, package / place, ignore=ignored, dirs_exist_ok=True)
    for path in package.rglob("*.py"):
        path.write_text(renamed(path.read_text(encoding="utf-8"), path.name), encoding="utf-8")


def renamed(source: str, name: str = "source") -> str:
    """The source with the installed names in its import statements; all else, line numbers too, stays.

    Raises:
        ValueError: ``import compression.runs`` without ``as``: it would bind another name than in the checkout.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        line = node.lineno - 1 if isinstance(node, ast.Import | ast.ImportFrom) else -1
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            lines[line] = _replaced(lines[line], r"\bfrom\s+", str(node.module))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in NAMES and alias.asname is None:
                    raise ValueError(f"{name}:{node.lineno}: write `import {alias.name} as …`, or import from it")
                lines[line] = _replaced(lines[line], r"\bimport\s+", alias.name)
    return "".join(lines)


def _replaced(line: str, keyword: str, module: str) -> str:
    first, dot, rest = module.partition(".")
    if first not in NAMES:
        return line
    return re.sub(
        rf"({keyword}){re.escape(module)}\b", lambda match: f"{match[1]}{NAMES[first]}{dot}{rest}", line, count=1
    )
