"""The documentation as a site: it is built without a warning, and needs no network to be read."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]*\bsrc=\"(https?:)?//|<link[^>]*rel=\"stylesheet\"[^>]*href=\"(https?:)?//"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "docs"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return target


def test_formulas_need_no_script(site: Path) -> None:
    """As many as there are in the text: display formulas are those between double dollars."""
    source = (ROOT / "docs" / "derivations" / "opq.md").read_text(encoding="utf-8")
    page = (site / "derivations" / "opq.html").read_text(encoding="utf-8")
    assert page.count('display="block"') == len(re.findall(r"\$\$.+?\$\$", source, re.S)) > 10
    assert "(O1)" in page
    for path in site.rglob("*.html"):
        assert 'class="arithmatex"' not in path.read_text(encoding="utf-8"), path


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    script = '<script async src="https://example.org/a.js">'
    assert LOADED.search(script), "the pattern itself"
    for path in site.rglob("*.html"):
        assert not LOADED.search(path.read_text(encoding="utf-8")), path


def test_every_page_of_the_docs_is_listed() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        assert f": {path.relative_to(ROOT / 'docs')}\n" in listed, path


def test_the_reference_has_what_the_package_offers(site: Path) -> None:
    """Public names of ``import compression as cx`` that are no modules, but for errors and the version."""
    import compression as cx

    page = (site / "api.html").read_text(encoding="utf-8")
    modules = {name for name in cx.__all__ if isinstance(getattr(cx, name), types.ModuleType)}
    for name in {*cx.__all__} - modules - {"CompressionError", "__version__", "cost"}:
        assert re.search(rf'id="compression\.[\w.]+\.{name}"', page), name


def test_the_citation_names_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == "MIT"
