"""The modules of ``assets/components`` as text: several as one, for reports and notebooks, which load none."""

from __future__ import annotations

import re

from compression.home import ROOT

ASSETS = ROOT / "assets"
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)


def text(name: str) -> str:
    """One file below ``assets/``, such as ``components/front.js``."""
    return (ASSETS / name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """Modules, in the order of their imports, as one module: what they export is in scope, so that their imports go."""
    return "\n".join(_IMPORT.sub("", text(name)) for name in names)


def style(*names: str) -> str:
    """Style sheets as one."""
    return "\n".join(map(text, names))
