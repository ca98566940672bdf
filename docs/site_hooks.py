"""What mkdocs does besides: pages that live elsewhere in the project, links between them, and formulas as MathML."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs is a program elsewhere

from lessons.mathml import formulas  # noqa: E402

ELSEWHERE = {
    "benchmarks.md": "BENCHMARKS.md",
    "changelog.md": "CHANGELOG.md",
    "gallery.md": "assets/gallery/README.md",
    "glossary.md": "lessons/glossary.md",
    "teachers.md": "lessons/teachers.md",
}
"""Page → the file of the project that it shows."""
TITLES = {"glossary.md": "# Glossary\n\n", "teachers.md": "# Teach with it\n\n"}
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!\w+\.md)[^)]*\)")
"""A link out of the documentation: to a lesson, which is a page of the app, or to code."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that live elsewhere."""
    for page, source in ELSEWHERE.items():
        text = TITLES.get(page, "") + (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to pages that live elsewhere lead to these; other links out of the documentation become their words."""
    for page, source in ELSEWHERE.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(source)}", f"]({page}", markdown)
    return OUTSIDE.sub(r"\1", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas become MathML, which browsers show without a script."""
    return formulas(content)
