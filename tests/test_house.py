"""The house itself: the name shared with the standard library since 3.14, light imports, declared requirements."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import real314

ROOT = Path(__file__).resolve().parents[1]

IMPORTS = """
import gzip, bz2, lzma, sys
import compression
assert gzip.decompress(gzip.compress(b"abc")) == b"abc"
assert compression.__file__.startswith({root!r}), compression.__file__
assert compression.__version__
from compression import CompressionError
assert issubclass(CompressionError, Exception)
print(sys.version_info[:2], len(list(compression.__path__)))
"""


def _python(code: str, cwd: Path = ROOT, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


def test_importing_the_library_is_light() -> None:
    heavy = ("torch", "torchvision", "numpy", "streamlit", "plotly", "pandas")
    code = f"import sys, compression; print([name for name in {heavy} if name in sys.modules])"
    assert _python(code).stdout.strip() == "[]"


def test_lists_of_models_and_data_are_light() -> None:
    code = (
        "import sys\nfrom compression import data, zoo\ndata.infos(), [zoo.spec(name).title for name in zoo.names()]\n"
        "print('torch' in sys.modules, 'streamlit' in sys.modules)"
    )
    assert _python(code).stdout.strip() == "False False"


def test_the_library_never_imports_the_app() -> None:
    for path in (ROOT / "compression").rglob("*.py"):
        allowed = {"plotly"} if path.parent.name == "plots" else set()
        imported = _imported(path) & {"streamlit", "plotly", "app", "pages", "lessons"} - allowed
        assert not imported, f"{path.relative_to(ROOT)} imports {imported}"


def test_lessons_import_the_library_only() -> None:
    for path in (ROOT / "lessons").rglob("*.py"):
        assert not _imported(path) & {"streamlit", "pages", "app"}, path.relative_to(ROOT)


def test_plots_are_imported_without_plotly() -> None:
    """Each of its modules; the first figure imports Plotly, and the first look at a method imports the methods."""
    code = (
        "import importlib, pkgutil, sys\nfrom compression import plots\n"
        "for each in pkgutil.iter_modules(plots.__path__): importlib.import_module(f'compression.plots.{each.name}')\n"
        "print([name for name in ('plotly', 'pandas', 'streamlit', 'torch') if name in sys.modules])"
    )
    assert _python(code).stdout.strip() == "[]"


def _project_beside_a_standard_library(folder: Path, extended: bool) -> tuple[Path, Path]:
    """A copy of the package's light part, and a folder that stands for the 3.14 standard library's package."""
    standard = folder / "standard"
    (standard / "compression" / "_common").mkdir(parents=True)
    (standard / "compression" / "__init__.py").write_text("")
    (standard / "compression" / "_common" / "__init__.py").write_text("")
    (standard / "compression" / "_common" / "_streams.py").write_text("BUFFER_SIZE = 1\n")
    (standard / "packer.py").write_text("from compression._common import _streams\nSIZE = _streams.BUFFER_SIZE\n")
    project = folder / "project"
    return _copy(project, extended), standard


def _copy(project: Path, extended: bool) -> Path:
    (project / "compression").mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "home.py", "lazy.py"):
        text = (ROOT / "compression" / name).read_text(encoding="utf-8")
        if not extended:
            assert "pkgutil.extend_path" in text or name != "__init__.py"
            text = re.sub(r"^__path__ = .*$", "", text, flags=re.MULTILINE)
        (project / "compression" / name).write_text(text, encoding="utf-8")
    return project


@pytest.mark.parametrize("extended", [True, False])
def test_simulated_standard_package_of_the_same_name(tmp_path: Path, extended: bool) -> None:
    """The way ``gzip`` of 3.14 imports its helpers works beside ours, and would not without the extended path."""
    project, standard = _project_beside_a_standard_library(tmp_path, extended)
    code = f"import packer; assert packer.SIZE == 1\n{IMPORTS.format(root=str(project))}"
    process = _python(code, project, project, standard)
    assert (process.returncode == 0) == extended, process.stderr
    if not extended:
        assert "No module named 'compression._common'" in process.stderr


@pytest.mark.parametrize("extended", [True, False])
def test_real_python_3_14(tmp_path: Path, extended: bool) -> None:
    """``import gzip, bz2, lzma`` with the project's root at the front of the path, on CPython 3.14 itself."""
    project = _copy(tmp_path / "project", extended) if not extended else ROOT
    lines = real314.output(IMPORTS.format(root="/project"), project, tmp_path)
    expected = "(3, 14) 2" if extended else "No module named 'compression._common'"
    assert expected in lines[-1], lines


def _imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def _required(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=!~;\[ ]", line)[0].lower() for line in lines if line and line[0] not in "#-"}


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (
            ("compression", "lessons", "app", "pages"),
            tuple(f"requirements{name}.txt" for name in ("", "-docs", "-hub", "-notebook", "-ray", "-track")),
        ),
        (
            ("tests",),
            tuple(f"requirements{name}.txt" for name in ("", "-dev", "-hub", "-ray", "-track", "-bench")),
        ),
    ],
)
def test_every_import_is_a_declared_requirement(folders: tuple[str, ...], files: tuple[str, ...]) -> None:
    declared = set().union(*(_required(name) for name in files))
    own = {"compression", "lessons", "app", "pages", "tests", "conftest"} | {
        path.stem for path in (ROOT / "tests").glob("*.py")
    }
    providers = packages_distributions()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for name in _imported(path) - set(sys.stdlib_module_names) - own:
                packages = {package.lower() for package in providers.get(name, [name])}
                assert packages & declared, f"{path.relative_to(ROOT)} imports {name}, which no requirement brings"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_port_in_use_is_reported_in_one_line() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = subprocess.run(
            ["make", "--no-print-directory", "app", f"PORT={port}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert process.returncode != 0
    assert len(process.stderr.strip().splitlines()) == 1
    assert f"port {port} is already in use" in process.stderr
    assert process.stdout.strip() == ""
