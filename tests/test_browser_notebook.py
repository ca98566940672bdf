"""The panel of ``cx.explore`` in a real JupyterLab and in marimo, in a real browser."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compression import methods
from compression.runs.folder import RunFolder
from compression.runs.results import result
from tests.notebooks import PANEL, answer_times, jupyterlab, marimo, run_first_cell, write_notebook
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]
METHOD = "ptq"  # takes seconds
SOURCE = 'import compression as cx\npanel = cx.explore("resnet8", "mnist5k", method={method!r}, runs={runs!r})\npanel'
AGAIN = "print(panel.budget.asks['bits'], [run.state for run in panel.runs])"
GENEROUS = 5000.0
"""Milliseconds: that a slider is answered at all on a machine with other work; tests/bench/notebook.py measures it."""


@pytest.fixture(autouse=True)
def _needed() -> None:
    for package in ("anywidget", "jupyterlab", "marimo"):
        pytest.importorskip(package, reason=f"{package} is not installed (requirements-dev.txt)")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def lab(tmp_path: Path, runs: Path) -> Iterator[str]:
    """JupyterLab with a notebook; its address."""
    write_notebook(tmp_path, SOURCE.format(method=METHOD, runs=str(runs)), AGAIN)
    with jupyterlab(tmp_path) as address:
        yield address


def figures(panel: Locator) -> list[str]:
    return panel.locator(".cx-figure").all_inner_texts()


def start_and_wait(panel: Locator, runs: Path) -> RunFolder:
    """Press Start, wait for the run's row to say that it is done; the folder it left."""
    panel.get_by_role("button", name=re.compile("^Start ")).click()
    panel.locator(".cx-runs td", has_text="done").wait_for()
    (folder,) = [RunFolder(path.parent) for path in runs.glob("*/result.json")]
    return folder


def on_the_front(panel: Locator, folder: RunFolder) -> None:
    """The run has its mark, which the keyboard picks, beside that of the dense model."""
    mark = panel.locator(f'.front .mark[data-id="{folder.id}"]')
    final = result(folder)["final"]
    assert f"{100 * final['score']:.1f} %" in str(mark.get_attribute("aria-label"))
    mark.focus()
    mark.press("Enter")
    assert mark.get_attribute("aria-pressed") == "true"
    assert panel.locator(".front .mark").count() == 2


def test_in_jupyterlab(lab: str, runs: Path, page: Page) -> None:
    panel = run_first_cell(page, lab)
    before = figures(panel)
    times = answer_times(page, "bits", [3, 6, 8])
    print(f"answer to a slider: {statistics.median(times):.0f} ms (median of {len(times)})")
    assert max(times) < GENEROUS
    assert figures(panel) != before
    handle = panel.locator('[data-field="bits"] input[type=range]')
    handle.focus()
    shown = panel.locator('[data-field="bits"] .cx-value')
    for _ in range(3):
        handle.press("ArrowLeft")
    assert shown.inner_text() == "5"
    folder = start_and_wait(panel, runs)
    on_the_front(panel, folder)
    assert folder.budget().asks["bits"] == 5
    assert not os.path.exists(f"{runs}-subjects")
    page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.locator(".jp-OutputArea-output", has_text="5 ['done']").wait_for()


def test_in_marimo(tmp_path: Path, runs: Path, page: Page) -> None:
    with marimo(tmp_path, SOURCE.format(method=METHOD, runs=str(runs))) as address:
        page.goto(address)
        panel = page.locator(PANEL)
        panel.locator(".cx-figure").first.wait_for()
        panel.get_by_label("Method").select_option(methods.default())
        assert panel.get_by_label("Seed").input_value() == "0"
        panel.get_by_label("Method").select_option(METHOD)
        panel.locator('[data-field="bits"]').wait_for()
        before = figures(panel)
        panel.locator('[data-field="bits"] input[type=range]').press("ArrowRight")
        until(lambda: figures(panel) != before)
        on_the_front(panel, start_and_wait(panel, runs))
