"""The app benchmark: twenty tabs on two servers that share one store, answers to a slider, and an hour of live updates.

python -m tests.bench.sessions [--minutes 60] [--tabs 20] [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from app import nav
from compression import runs
from compression.budget import Budget
from tests.bench.graphs import write
from tests.bench.report import machine
from tests.served import Served
from tests.served import chromium
from tests.served import served
from tests.served import settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Locator
    from playwright.sync_api import Page

TITLE = "The app: tabs, answers, an hour of live updates"
TOUR = ("model", "groups", "budget", "runs", "compare", "learn")
TURNS = 20
RUN = Budget(method="geta", model="resnet8", data="mnist5k", epochs=1000, batch_size=64)
SLIDER_REACH, SWITCH_REACH, MEMORY_REACH = 600.0, 500.0, 50.0
LEGEND = """\
Tabs: two servers on one runs folder, half of the tabs each, all at once through the pages while a GETA run goes; an
error is an exception box, an error line, a JavaScript error or a line with a traceback in a server's log. Slider: one
tab on the Budget page of ResNet-20, one step of the sparsity slider, from the key to other numbers in the browser.
Switch: a link in the navigation, from the click to the page's end, every page seen once before. Memory: resident size
of a server while one tab shows a run that goes on, against its size after the first tenth of the time; the run is a
real one in a process of its own. This machine's two cores also did the run and the browser."""


@dataclass(frozen=True)
class Measured:
    """Milliseconds each; ``memory`` is (minutes, MB) over time; ``errors`` what went wrong in how many page views."""

    tabs: int
    views: int
    errors: list[str]
    slider: list[float]
    switch: list[float]
    memory: list[tuple[float, float]]


def main(argv: list[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(
        prog="tests.bench.sessions", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="of live updates")
    parser.add_argument("--tabs", type=int, default=20, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    asked = parser.parse_args(argv)
    found = measure(asked.tabs, asked.minutes)
    text = section(found)
    print(text)
    if asked.write:
        write(asked.write, text)
    return 1 if found.errors else 0


def measure(tabs: int, minutes: float) -> Measured:
    """Everything, on servers and a runs folder of their own."""
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        store = folder / "runs"
        with served(store, folder / "one.txt") as one:
            slider, switch = answers(browser, one)
            run = runs.start(RUN, store)
            try:
                with served(store, folder / "two.txt") as two:
                    views, errors = crowd(browser, (one, two), run, tabs)
                memory = growth(browser, one, run, minutes)
            finally:
                runs.cancel(run, store)
        logs = [line for path in folder.glob("*.txt") for line in path.read_text(errors="replace").splitlines()]
        errors += [line for line in logs if "Traceback" in line or "database is locked" in line]
    return Measured(tabs, views, errors, slider, switch, memory)


def answers(browser: Browser, app: Served) -> tuple[list[float], list[float]]:
    """Milliseconds from a slider's move to new numbers, and from a link's click to the end of its page."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{app.address}/budget?model=resnet20")
    settled(page, "budget")
    slider = page.get_by_role("slider").first
    moved = [_slide(page, slider, key) for key in ("ArrowRight", "ArrowLeft") * (TURNS // 2 + 1)]
    for name in TOUR:
        _switch(page, name)
    switched = [_switch(page, name) for _ in range(TURNS // len(TOUR) + 1) for name in TOUR]
    page.close()
    return moved[2:], switched


def _slide(page: Page, slider: Locator, key: str) -> float:
    before = page.get_by_test_id("stMetricValue").first.inner_text()
    begin = time.perf_counter()
    slider.press(key)
    page.wait_for_function(
        "before => document.querySelector('[data-testid=stMetricValue]').innerText !== before", arg=before
    )
    seconds = time.perf_counter() - begin
    settled(page, "budget")
    return seconds * 1e3


def _switch(page: Page, name: str) -> float:
    begin = time.perf_counter()
    page.get_by_role("link", name=nav.PAGES[name].title, exact=True).first.click()
    settled(page, name)
    return (time.perf_counter() - begin) * 1e3


def crowd(browser: Browser, apps: Sequence[Served], run: str, tabs: int) -> tuple[int, list[str]]:
    """How many pages were seen by ``tabs`` tabs at once, and what went wrong."""
    errors: list[str] = []
    pages = [browser.new_page() for _ in range(tabs)]
    for number, page in enumerate(pages):
        page.set_default_timeout(180_000)
        page.on("pageerror", lambda error: errors.append(f"JavaScript: {error}"))
        page.goto(f"{apps[number % len(apps)].address}/runs?run={run}", wait_until="commit")
    for turn in range(len(TOUR)):
        names = [TOUR[(turn + number) % len(TOUR)] for number in range(tabs)]
        for page, name in zip(pages, names, strict=True):  # all are clicked before any is waited for
            page.get_by_role("link", name=nav.PAGES[name].title, exact=True).first.click()
        for page, name in zip(pages, names, strict=True):
            try:
                settled(page, name)
            except AssertionError as problem:
                errors.append(f"{name}: {problem}")
    for page in pages:
        page.close()
    return tabs * len(TOUR), errors


def growth(browser: Browser, app: Served, run: str, minutes: float) -> list[tuple[float, float]]:
    """The server's resident megabytes over the minutes, a tenth of them apart, while a tab watches the run."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{app.address}/runs?run={run}")
    settled(page, "runs")
    server, seen, begin = psutil.Process(app.pid), [], time.monotonic()
    for tenth in range(11):
        page.wait_for_timeout(max(0.0, 1e3 * (60 * minutes * tenth / 10 - (time.monotonic() - begin))))
        seen.append((minutes * tenth / 10, server.memory_info().rss / 1e6))
    page.close()
    return seen


def section(found: Measured) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    minutes = found.memory[-1][0]
    grown = found.memory[-1][1] - found.memory[1][1]
    about = machine(f"{found.tabs} tabs, {minutes:g} minutes")
    about += [
        f"- {found.tabs} tabs at once, {found.views} page views: {len(found.errors)} errors, to reach: none",
        *(f"- {error}" for error in found.errors[:10]),
        f"- slider: {statistics.median(found.slider):.0f} ms (median), {max(found.slider):.0f} ms (slowest of "
        f"{len(found.slider)}), to reach: {SLIDER_REACH:g}",
        f"- page switch, warm: {statistics.median(found.switch):.0f} ms (median), {max(found.switch):.0f} ms (slowest "
        f"of {len(found.switch)}), to reach: {SWITCH_REACH:g}",
        f"- memory grew by {grown:.0f} MB in {0.9 * minutes:.0f} minutes, to reach: {MEMORY_REACH:g} in 60",
    ]
    lines = ["minutes of live updates | server, MB", "---: | ---:"]
    lines += [f"{minute:.1f} | {size:.0f}" for minute, size in found.memory]
    return "\n\n".join([f"## {TITLE}", "\n".join(about), LEGEND, "\n".join(f"| {line} |" for line in lines)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
