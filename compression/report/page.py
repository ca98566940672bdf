"""The document: data as JSON that is never executed, one style and one script, both named by digest in its policy."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from compression.plots import components
from compression.plots.components import ASSETS

STYLES = ("components/front.css", "components/bars.css", "report/report.css")
SCRIPTS = ("components/front.js", "components/bars.js", "report/report.js")
"""Modules in the order of their imports: in one file they are one module."""
FONT = "fonts/source-sans-3-latin.woff2"
NOTHING = "nothing to show"

_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}


def document(report: Mapping[str, Any], home: str = "") -> str:
    """A report as one HTML document that loads nothing: no address outside of it is allowed by its policy.

    ``home``: of a report that is part of a site, the relative address of the site's first page.
    """
    return _template().render(
        title=report["title"] or NOTHING, report=report, data=embedded(report), style=style(), script=script(),
        policy=policy(), home=home,
    ).encode("utf-8", "replace").decode()  # fmt: skip


def embedded(value: Any) -> str:
    """JSON for a ``<script>`` that is not executed: no name in it can end the element or begin a comment."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def policy() -> str:
    """The content policy: one script and one style by their digests, pictures and font from within, nothing else."""
    return (
        f"default-src 'none'; script-src '{_digest(script())}'; style-src '{_digest(style())}'; img-src data:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def script() -> str:
    """The modules as one."""
    return components.script(*SCRIPTS)


@cache
def style() -> str:
    """All rules, with the typeface of the app inside."""
    font = base64.b64encode((ASSETS / FONT).read_bytes()).decode("ascii")
    face = f'@font-face {{ font-family: "Report"; font-weight: 200 900; src: url(data:font/woff2;base64,{font}); }}'
    return f"{face}\n{components.style(*STYLES)}"


def _digest(text: str) -> str:
    """As policies have it: of the text between the tags."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return environment.get_template("page.html.j2")
