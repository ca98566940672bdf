"""A real CPython 3.14: the one that the npm package pyodide brings, run by Node.js."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAJOR = "314"  # the npm package of this major version brings CPython 3.14
CACHE = ROOT / ".venv" / "pyodide"

RUNNER = """
const { loadPyodide } = await import(process.argv[2]);
const python = await loadPyodide({ stdout: console.log });
python.FS.mkdir("/project");
python.FS.mount(python.FS.filesystems.NODEFS, { root: process.argv[3] }, "/project");
python.runPython(process.argv[4]);
"""

# Pyodide itself has imported gzip and its like by now: forget them, so that they are imported as in a fresh process.
FRESH = """
import sys, traceback
sys.path.insert({place}, "/project")
for name in list(sys.modules):
    if name.partition(".")[0] in ("compression", "gzip", "bz2", "lzma", "zipfile", "tarfile", "shutil"):
        del sys.modules[name]
try:
    exec({code!r}, {{}})
except Exception:
    print(traceback.format_exc())
"""


def installed() -> Path:
    """The folder of the npm package; the test is skipped where it cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: no real Python 3.14 to try (the simulated one was tried)")
    home = CACHE / "node_modules" / "pyodide"
    if not (home / "pyodide.asm.wasm").is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", f"pyodide@{MAJOR}"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=240)
        if process.returncode != 0:
            reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"the npm package pyodide could not be installed ({reason}); the simulated 3.14 was tried")
    return home


def output(code: str, project: Path, scratch: Path, *, last: bool = False) -> list[str]:
    """The lines that ``code`` prints there, with ``project`` (as ``/project``) first or ``last`` on the path."""
    runner = scratch / "run.mjs"
    runner.write_text(RUNNER)
    fresh = FRESH.format(place="len(sys.path)" if last else 0, code=code)
    command = ["node", str(runner), str(installed() / "pyodide.mjs"), str(project), fresh]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout.strip().splitlines()
