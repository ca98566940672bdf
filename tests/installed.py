"""What ``pip install .`` makes, in an environment of its own that has the project's requirements and nothing else.

Nothing is downloaded: what the requirements bring is linked from the environment of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = "compression-explorer"
SITE = Path(sysconfig.get_path("purelib"))


def project() -> dict[str, Any]:
    """The table ``project`` of ``pyproject.toml``."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def requirements(*extras: str) -> set[str]:
    """The lines of ``pyproject.toml`` that an installation with these extras needs; an extra may name others."""
    table, lines = project(), set(project()["dependencies"])
    for extra in extras:
        for line in table["optional-dependencies"][extra]:
            inner = Requirement(line)
            lines |= requirements(*inner.extras) if inner.name == PROJECT else {line}
    return lines


def build(target: str, root: Path, folder: Path) -> Path:
    """The archive that hatchling makes of a source tree: ``wheel`` or ``sdist``."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    (archive,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return archive


def link(lines: Iterable[str], folder: Path) -> Path:
    """Link into ``folder`` what the requirements bring, and what those require, of the environment of the tests.

    Streamlit takes itself for its own checkout where the folder is not called ``site-packages``.
    """
    folder.mkdir(parents=True)
    waiting, seen = [Requirement(line) for line in lines], set()
    while waiting:
        requirement = waiting.pop()
        place = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if place in seen:
            continue
        seen.add(place)
        package = distribution(requirement.name)
        for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(SITE / name)
        for inner in map(Requirement, package.requires or ()):
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    return folder


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel installed; commands are run in ``work``, far from the checkout."""

    home: Path
    work: Path
    data: Path

    @classmethod
    def create(cls, folder: Path, wheel: Path, lines: Iterable[str]) -> Environment:
        """An environment that has the wheel and what ``lines`` require."""
        home, work = folder / "venv", folder / "work"
        venv.create(home, symlinks=True)
        work.mkdir()
        environment = cls(home, work, folder / "data")
        (environment.site / "linked.pth").write_text(f"{link(lines, folder / 'linked' / 'site-packages')}\n")
        pip = [sys.executable, "-m", "pip", "--python", str(environment.python), "--quiet"]
        subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
        return environment

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.home / "bin" / "python"

    @property
    def script(self) -> Path:
        """The program that the wheel brings."""
        return self.home / "bin" / PROJECT

    @property
    def site(self) -> Path:
        """Where its packages lie."""
        return next((self.home / "lib").glob("python*/site-packages"))

    @property
    def variables(self) -> dict[str, str]:
        """The variables of its commands: nothing says where a checkout is, and the user's data are its own."""
        ours = ("PYTHONPATH", "COMPRESSION_RUNS", "COMPRESSION_MODELS", "COMPRESSION_CACHE", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        return {**inherited, "XDG_DATA_HOME": str(self.data), "COLUMNS": "200"}

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Carry out a command there."""
        command = list(map(str, words))
        return subprocess.run(command, cwd=self.work, env=self.variables, capture_output=True, text=True)

    def output(self, *words: str | Path) -> str:
        """What a command says that must succeed."""
        process = self.run(*words)
        assert process.returncode == 0, process.stderr[-2000:]
        return process.stdout
