"""Real notebook servers on ports of their own, and a notebook opened in them: for browser tests and the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.served import END_SECONDS, START_SECONDS, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "explore.ipynb"
PANEL = ".cx-explore"
QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def cell(source: str) -> dict[str, object]:
    """A code cell that has not been run."""
    return {"cell_type": "code", "execution_count": None, "id": secrets.token_hex(4), "metadata": {}, "outputs": [],
            "source": source}  # fmt: skip


def write_notebook(folder: Path, *sources: str) -> Path:
    """A notebook of these cells in ``folder``."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path = folder / NOTEBOOK
    whole = {"cells": [cell(source) for source in sources], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


@contextlib.contextmanager
def jupyterlab(folder: Path, dark: bool = False) -> Iterator[str]:
    """JupyterLab on ``folder``, with settings of its own and a token; gives the address of the notebook there."""
    token, port, own = secrets.token_hex(16), free_port(), folder / ".jupyter"
    theme = {"@jupyterlab/apputils-extension:themes": {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"}}
    for plugin, values in {**QUIET, **theme}.items():
        package, _, name = plugin.partition(":")
        place = own / "settings" / package
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.jupyterlab-settings").write_text(json.dumps(values), encoding="utf-8")
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    places |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    variables = {name: str(own / place) for name, place in places.items()} | {"JUPYTER_TOKEN": token}
    command = ["-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.allow_root=True"]
    command += ["--LabApp.extension_manager=readonly"]
    address = f"http://127.0.0.1:{port}"
    with _server(command, folder / "jupyterlab.log", variables, f"{address}/api/status?token={token}"):
        yield f"{address}/lab/tree/{NOTEBOOK}?token={token}"


@contextlib.contextmanager
def marimo(folder: Path, *sources: str) -> Iterator[str]:
    """A marimo notebook of these cells, run as an app; gives its address."""
    cells = [f"@app.cell\ndef _():\n{_indented(source)}\n    return\n" for source in sources]
    path = folder / "explore_marimo.py"
    body = "\n\n".join(["import marimo\n\napp = marimo.App()", *cells, 'if __name__ == "__main__":\n    app.run()\n'])
    path.write_text(body, encoding="utf-8")
    token, port = secrets.token_hex(16), free_port()
    command = ["-m", "marimo", "-q", "run", str(path), "--headless", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--token", "--token-password", token]
    home = {"XDG_CONFIG_HOME": str(folder / ".config"), "XDG_STATE_HOME": str(folder / ".state")}
    address = f"http://127.0.0.1:{port}"
    with _server(command, folder / "marimo.log", home, f"{address}/health"):
        yield f"{address}/?access_token={token}"


@contextlib.contextmanager
def streamlit(folder: Path, script: str, *arguments: str) -> Iterator[str]:
    """A script of this project as a Streamlit app; gives its address."""
    port = free_port()
    command = ["-m", "streamlit", "run", str(ROOT / script), "--server.port", str(port), "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--browser.gatherUsageStats", "false", "--", *arguments]
    address = f"http://127.0.0.1:{port}"
    with _server(command, folder / "streamlit.log", {}, f"{address}/_stcore/health", ROOT):
        yield address


def _indented(source: str) -> str:
    return "\n".join(f"    {line}" for line in source.splitlines())


@contextlib.contextmanager
def _server(
    command: Sequence[str], log: Path, variables: dict[str, str], address: str, place: Path | None = None
) -> Iterator[None]:
    """A server as a process of this interpreter, until the end of the block; its kernels end with it."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [sys.executable, *command], cwd=place or log.parent, stdout=stream, stderr=subprocess.STDOUT,
            env={**os.environ, **variables, "PYTHONPATH": paths},
        )  # fmt: skip
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(address):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        try:
            server.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def run_first_cell(page: Page, address: str) -> Locator:
    """Open a notebook in JupyterLab, run its first cell, and wait for the panel."""
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.click()
    page.locator(".jp-NotebookPanel-toolbar").wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Enter")
    panel = page.locator(PANEL)
    wrong = page.locator(".jp-OutputArea-output[data-mime-type*=error]")
    panel.locator(".cx-figure").or_(wrong).first.wait_for()
    assert not wrong.count(), wrong.first.inner_text()
    return panel


ANSWER = """([selector, field, value]) => new Promise((resolve) => {
  const panel = document.querySelector(selector);
  const handle = panel.querySelector(`[data-field="${field}"] input[type=range]`);
  const figures = panel.querySelector(".cx-figures");
  const seen = () => [...figures.querySelectorAll(".cx-figure")].map((each) => each.textContent).join("|");
  const before = seen();
  const watcher = new MutationObserver(() => {
    if (seen() === before) return;
    watcher.disconnect();
    resolve(performance.now() - begun);
  });
  watcher.observe(figures, { childList: true, subtree: true, characterData: true });
  handle.value = value;
  const begun = performance.now();
  handle.dispatchEvent(new Event("input", { bubbles: true }));
})"""
"""From a slider's input event to other figures on the page, in milliseconds."""


def answer_times(page: Page, field: str, values: Sequence[float]) -> list[float]:
    """Milliseconds from each move of a slider to the forecast that it leads to, in the page."""
    return [float(page.evaluate(ANSWER, [PANEL, field, value])) for value in values]
