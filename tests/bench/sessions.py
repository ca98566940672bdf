"""The app benchmark: answers in the browser, many tabs on one server and on two, steady views, an hour of updates.

python -m tests.bench.sessions [--only answers|tabs|steady|hour] [--minutes M] [--tabs N] [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from app import nav
from compression import runs
from compression.budget import Budget
from tests.bench.graphs import write
from tests.bench.report import machine
from tests.served import Served, chromium, served, settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

TOUR = ("model", "groups", "budget", "runs", "compare", "learn")
TURNS = 20
RUN = Budget(method="geta", model="resnet8", data="mnist5k", epochs=1000, batch_size=64)
STEADY_MINUTES, STEADY_TABS, HOUR_MINUTES, MANY_TABS = 10.0, 8, 60.0, 20
VIEW_REACH, GROWTH_REACH = 10.0, 100.0
SERVER_REACH, SLIDER_REACH, SWITCH_REACH, MEMORY_REACH = 150.0, 600.0, 500.0, 50.0
ANSWERS = """\
Slider: one tab on the Budget page of ResNet-20, one step of the sparsity slider: what the server's log
(`--log-times`) says of the rerun, and from the key to other numbers in the browser. Switch: a link in the navigation,
from the click to the page's end, every page seen once before. This machine's two cores also did the browser."""
TABS = """\
All tabs stay open and change page together, through all pages, while a GETA run goes that some of them show live; with
two servers, half of the tabs each on one runs folder. An error is an exception box, an error line, a JavaScript error,
or a line with a traceback or a locked database in a server's log. This machine's two cores also did the run and the
browser."""
STEADY = """\
The tabs go from page to page without a pause, all at once, each page opened anew by its address or by a click in turn,
while a GETA run goes that some of them show live. A view lasts from the address or click to the end of the page's
script. Memory and open file handles are the server's, at the end of each round; growth counts from the end of the third
round, when what Python loads is loaded. This machine's two cores also did the run and the browser."""
HOUR = """\
Resident size of a server while one tab shows a run that goes on, and its growth against the size after the first tenth
of the time; the run is a real one in a process of its own."""


def main(argv: list[str] | None = None) -> int:
    """Measure, print the sections, and put them into a file if asked; 1 when a tab met an error."""
    parser = argparse.ArgumentParser(
        prog="tests.bench.sessions", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--only", choices=("answers", "tabs", "steady", "hour"), help="one part (default: all)")
    parser.add_argument("--minutes", type=float, metavar="M", help="of live updates (60), of steady views (10)")
    parser.add_argument("--tabs", type=int, metavar="N", help="at once (20), in steady views (8)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the sections into this file")
    arguments = parser.parse_args(argv)
    failed = False
    for part in [arguments.only] if arguments.only else ["answers", "tabs", "steady", "hour"]:
        with tempfile.TemporaryDirectory() as name, chromium() as browser:
            if part == "answers":
                text = answers_section(browser, Path(name))
            elif part == "tabs":
                text, errors = tabs_section(browser, Path(name), arguments.tabs or MANY_TABS)
                failed = failed or bool(errors)
            elif part == "steady":
                minutes, tabs = arguments.minutes or STEADY_MINUTES, arguments.tabs or STEADY_TABS
                text, errors = steady_section(browser, Path(name), tabs, minutes)
                failed = failed or bool(errors)
            else:
                text = hour_section(browser, Path(name), arguments.minutes or HOUR_MINUTES)
        print(text, flush=True)
        if arguments.write:
            write(arguments.write, text)
    return int(failed)


@contextlib.contextmanager
def going(store: Path) -> Iterator[str]:
    """A run that goes on while the block lasts; gives its id."""
    run = runs.start(RUN, store)
    try:
        yield run
    finally:
        runs.cancel(run, store)


def answers_section(browser: Browser, folder: Path) -> str:
    """How long a slider and the navigation take to answer."""
    with served(folder / "runs", folder / "log.txt", "--log-times") as app:
        server, slider, switch = answers(browser, app)
    return _section(
        "The app: answers in the browser",
        [
            *machine(f"{len(slider)} moves, {len(switch)} switches"),
            _reached("slider, on the server", server, SERVER_REACH),
            _reached("slider, in the browser", slider, SLIDER_REACH),
            _reached("page switch, warm", switch, SWITCH_REACH),
        ],
        ANSWERS,
    )


def tabs_section(browser: Browser, folder: Path, tabs: int) -> tuple[str, list[str]]:
    """What goes wrong when many look at once: on one server, and on two that share a store; and the errors."""
    store, lines, errors = folder / "runs", machine(f"{tabs} tabs"), []
    with served(store, folder / "one.txt") as one, served(store, folder / "two.txt") as two, going(store) as run:
        for what, apps in (("one server", [one]), ("two servers, one store", [one, two])):
            begun = time.monotonic()
            views, met = crowd(browser, apps, run, tabs)
            lines.append(
                f"- {what}: {tabs} tabs at once, {views} page views in {time.monotonic() - begun:.0f} s, {len(met)} "
                "errors, to reach: none"
            )
            errors += met
    problems = [line for path in folder.glob("*.txt") for line in troubles(path)]
    lines.append(f"- tracebacks and locked databases in the servers' logs: {len(problems)}")
    errors += problems
    return _section("The app: many tabs", [*lines, *(f"- {error}" for error in errors[:10])], TABS), errors


def steady_section(browser: Browser, folder: Path, tabs: int, minutes: float) -> tuple[str, list[str]]:
    """How long views last when several tabs never pause, and what the server keeps of them; and the errors."""
    with served(folder / "runs", folder / "log.txt") as app, going(folder / "runs") as run:
        rounds, errors = steady(browser, app, run, tabs, minutes)
    errors += troubles(folder / "log.txt")
    views = [seconds for each in rounds for seconds in each.views]
    first = rounds[min(2, len(rounds) - 1)]
    handles = [each.handles for each in rounds[2:] or rounds]
    lines = [
        *machine(f"{tabs} tabs, {minutes:g} minutes, {len(views)} views, {len(errors)} errors"),
        f"- a view: {statistics.median(views):.1f} s (median), {max(views):.1f} s (slowest), to reach: {VIEW_REACH:g}",
        f"- memory: {rounds[-1].megabytes:.0f} MB, grew by {rounds[-1].megabytes - first.megabytes:.0f} MB, to reach: "
        f"{GROWTH_REACH:g}",
        f"- open file handles: {handles[0]} after the third round, {max(handles)} at most, {handles[-1]} at the end",
    ]
    return _section("The app: tabs without a pause", [*lines, *(f"- {error}" for error in errors[:10])], STEADY), errors


def troubles(log: Path) -> list[str]:
    """The lines of a server's log that tell of an error."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if "Traceback" in line or "database is locked" in line]


def hour_section(browser: Browser, folder: Path, minutes: float) -> str:
    """How the server's memory grows."""
    store = folder / "runs"
    with served(store, folder / "log.txt") as app, going(store) as run:
        memory = growth(browser, app, run, minutes)
    grown = memory[-1][1] - memory[1][1]
    summary = f"- memory grew by {grown:.0f} MB in {0.9 * minutes:.0f} minutes, to reach: {MEMORY_REACH:g} in 60"
    table = ["minutes of live updates | server, MB", "---: | ---:"]
    table += [f"{minute:.1f} | {size:.0f}" for minute, size in memory]
    text = _section("The app: live updates", [*machine(f"{minutes:g} minutes"), summary], HOUR)
    return text + "\n" + "\n".join(f"| {line} |" for line in table) + "\n"


def answers(browser: Browser, app: Served) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of the server for a slider's move, until new numbers are seen, and of a change of page."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{app.address}/budget?model=resnet20")
    settled(page, "budget")
    slider = page.get_by_role("slider").first
    for key in ("ArrowRight", "ArrowLeft"):
        _slide(page, slider, key)
    before = len(app.log.read_text())
    moved = [_slide(page, slider, key) for key in ("ArrowRight", "ArrowLeft") * (TURNS // 2)]
    server = [float(each) for each in re.findall(r"budget answer: (\d+) ms", app.log.read_text()[before:])]
    for name in TOUR:
        _switch(page, name)
    switched = [_switch(page, name) for _ in range(TURNS // len(TOUR) + 1) for name in TOUR]
    page.close()
    return server, moved, switched


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
    """How many pages were seen by ``tabs`` tabs open at once, all changing page together, and what went wrong."""
    errors: list[str] = []
    pages = [browser.new_page() for _ in range(tabs)]
    for number, page in enumerate(pages):
        page.set_default_timeout(180_000)
        page.on("pageerror", lambda error: errors.append(f"JavaScript: {error}"))
        page.goto(f"{apps[number % len(apps)].address}/{TOUR[number % len(TOUR)]}?run={run}")
        settled(page, TOUR[number % len(TOUR)])
    for turn in range(1, len(TOUR) + 1):
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
    return tabs * (len(TOUR) + 1), errors


@dataclass(frozen=True)
class Round:
    """What one round of all tabs took: seconds of each view; then the server's memory and open file handles."""

    views: tuple[float, ...]
    megabytes: float
    handles: int


def steady(browser: Browser, app: Served, run: str, tabs: int, minutes: float) -> tuple[list[Round], list[str]]:
    """Rounds of views by ``tabs`` tabs until the minutes are over, three at least; and what went wrong."""
    errors: list[str] = []
    server, rounds, begin = psutil.Process(app.pid), [], time.monotonic()
    pages = [browser.new_page() for _ in range(tabs)]
    for page in pages:
        page.set_default_timeout(180_000)
        page.on("pageerror", lambda error: errors.append(f"JavaScript: {error}"))
    while len(rounds) < 3 or time.monotonic() - begin < 60 * minutes:
        views = _round(app, pages, run, len(rounds), errors)
        rounds.append(Round(tuple(views), server.memory_info().rss / 1e6, server.num_fds()))
    for page in pages:
        page.close()
    return rounds, errors


def _round(app: Served, pages: Sequence[Page], run: str, number: int, errors: list[str]) -> Iterator[float]:
    """Every tab opens its next page, all at once; the seconds until each is there. One that never ends is an error."""
    from playwright.sync_api import Error

    names = [TOUR[(number + place) % len(TOUR)] for place in range(len(pages))]
    begun = []
    for page, name in zip(pages, names, strict=True):
        begun.append(time.monotonic())
        if number % 2:
            page.get_by_role("link", name=nav.PAGES[name].title, exact=True).first.click()
        else:
            page.goto(f"{app.address}/{name}?run={run}", wait_until="commit")
    for page, name, begin in zip(pages, names, begun, strict=True):
        try:
            settled(page, name)
        except AssertionError as problem:
            errors.append(f"{name}: {problem}")
        except Error as problem:
            errors.append(f"{name}: {problem.message.splitlines()[0]}")
        yield time.monotonic() - begin


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


def _reached(what: str, milliseconds: Sequence[float], reach: float) -> str:
    median, slowest = statistics.median(milliseconds), max(milliseconds)
    return f"- {what}: {median:.0f} ms (median), {slowest:.0f} ms (slowest of {len(milliseconds)}), to reach: {reach:g}"


def _section(title: str, lines: Sequence[str], legend: str) -> str:
    return "\n\n".join([f"## {title}", "\n".join(lines), legend]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
