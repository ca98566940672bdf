"""The real app in a real browser: a newcomer goes through the pages and a GETA run finishes before their eyes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_compare_page import finished

from app import nav
from compression.budget import Budget

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
START_SECONDS, PAGE_SECONDS, RUN_SECONDS = 30, 45, 120
HEAT, TILES = ".js-plotly-plot .heatmaplayer .hm", 6
ANY_TRACE = ".js-plotly-plot .scatterlayer .trace"
WHERE = """run => {
    const chart = document.querySelector(".js-plotly-plot")
    chart.scrollIntoView({block: "center"})
    const box = chart.getBoundingClientRect(), {xaxis, yaxis} = chart._fullLayout
    for (const trace of chart.calcdata)
        for (const point of trace)
            if (point.data && point.data[0] === run && trace[0].trace.visible === true)
                return [box.x + xaxis._offset + xaxis.c2p(point.x), box.y + yaxis._offset + yaxis.c2p(point.y)]
    return null
}"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app keeps its runs and its log."""
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The address of the real app, started as ``make app`` starts it, on a runs folder of its own."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true", "--", "--runs", str(folder / "runs")]
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, cwd=nav.ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(port):
            assert server.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < until, "the app did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium: the system's, else the one Playwright installed."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (requirements-dev.txt)")
    system = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    with api.sync_playwright() as playwright:
        path = system or playwright.chromium.executable_path
        if not Path(path).exists():
            reason = "no Chromium: install the system's package, or run `playwright install chromium`"
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh tab at desk width; a JavaScript error on any page fails the test."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.set_default_timeout(PAGE_SECONDS * 1000)
    broken: list[str] = []
    tab.on("pageerror", lambda error: broken.append(str(error)))
    yield tab
    tab.close()
    assert broken == []


def settled(page: Page, name: str) -> None:
    """Wait for the page's question and for the script to end; no exception box, no error line."""
    page.get_by_role("heading", name=nav.PAGES[name].question).wait_for()
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'")
    assert page.get_by_test_id("stException").all_inner_texts() == []
    assert page.get_by_test_id("stAlertContentError").all_inner_texts() == []


def follow(page: Page, name: str) -> None:
    """Click the page's link in the navigation."""
    page.get_by_role("link", name=nav.PAGES[name].title, exact=True).first.click()
    settled(page, name)


def test_a_newcomer_sees_a_run_finish(page: Page, address: str) -> None:
    page.goto(address)
    settled(page, "start")

    follow(page, "model")
    page.get_by_text("Test accuracy").wait_for()
    follow(page, "groups")
    _light_up_a_group(page)
    follow(page, "budget")
    _move_a_slider(page)
    follow(page, "runs")
    page.get_by_text("No runs yet").wait_for()

    follow(page, "start")
    page.get_by_role("button", name="Try it now").click()
    settled(page, "runs")
    assert "run=geta-resnet8" in page.url
    _watch(page)
    figures = _four_figures(page)

    page.reload()
    settled(page, "runs")
    page.get_by_text("What came of it").wait_for()
    assert _four_figures(page) == figures
    follow(page, "export")
    _take_home(page)
    follow(page, "explain")
    _explain(page)
    follow(page, "start")
    page.get_by_role("link", name="resnet8 on mnist5k").first.wait_for()


def _take_home(page: Page) -> None:
    """The bundle of the finished run is made while progress shows, and downloaded."""
    page.get_by_role("button", name="Make the bundle").click()
    page.get_by_test_id("stProgress").wait_for()
    button = page.get_by_role("button", name="Download the bundle")
    button.wait_for(timeout=RUN_SECONDS * 1000)
    page.get_by_text("Does it still answer the same?").wait_for()
    settled(page, "export")
    with page.expect_download() as download:
        button.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert {"model.onnx", "load.py", "MODEL_CARD.md"} <= set(archive.namelist())


def _explain(page: Page) -> None:
    """Maps at once; a method that takes long and the scores from a job that is watched; a link opens the same."""
    page.locator(HEAT).nth(2 * TILES - 1).wait_for()
    page.get_by_test_id("stButtonGroup").first.get_by_text("Occlusion", exact=True).click()
    page.wait_for_url("**attribution=Occlusion*")
    page.get_by_role("button", name="Compute it").click()
    page.get_by_test_id("stProgress").wait_for()
    page.get_by_text("Of the way from chance").wait_for(timeout=RUN_SECONDS * 1000)
    settled(page, "explain")
    page.reload()
    settled(page, "explain")
    page.locator(HEAT).nth(2 * TILES - 1).wait_for()
    page.get_by_text("How much the answer drops").wait_for()


def _four_figures(page: Page) -> list[str]:
    """Size, accuracy, MACs and BOPs of the finished run."""
    values = page.get_by_test_id("stMetricValue")
    values.nth(3).wait_for()
    return [str(text) for text in values.all_inner_texts()]


def _light_up_a_group(page: Page) -> None:
    point = page.locator(ANY_TRACE).nth(1).locator(".point").nth(1)
    point.wait_for()
    box = point.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_text("Why they are tied").wait_for()
    assert "group=" in page.url
    settled(page, "groups")


def _move_a_slider(page: Page) -> None:
    before = page.get_by_test_id("stMetricValue").first.inner_text()
    page.get_by_role("slider").first.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('[data-testid=stMetricValue]').innerText !== before", arg=before
    )
    assert "sparsity=0.51" in page.url
    settled(page, "budget")


def _watch(page: Page) -> None:
    """Points appear while the run goes, more and more; then what came of it."""
    seen: set[int] = set()
    until = time.monotonic() + RUN_SECONDS
    done = page.get_by_text("What came of it")
    while not done.count():
        assert time.monotonic() < until, f"the run did not end; numbers of points seen: {sorted(seen)}"
        assert page.get_by_test_id("stException").count() == 0
        if page.get_by_test_id("stProgress").count() and page.locator(ANY_TRACE).count():
            seen.add(page.locator(ANY_TRACE).first.locator(".point").count())
        time.sleep(0.25)
    settled(page, "runs")
    assert len(seen) >= 4, f"the front grows while the run goes, not {sorted(seen)}"


def test_a_click_on_a_point_picks_its_run(page: Page, address: str, folder: Path) -> None:
    """Two more runs on the front: the one clicked is in the address and explained, and a link opens it again."""
    small = finished(folder / "runs", 0.90, 2_000, Budget(sparsity=0.9))
    good = finished(folder / "runs", 0.999, 3_000, Budget(sparsity=0.8))
    page.goto(f"{address}/compare?run={good}")
    settled(page, "compare")
    _click_marker(page, small)
    page.wait_for_url(f"**run={small}*")
    told = page.get_by_test_id("stMarkdown")
    told.get_by_text("40.0× smaller and 8.0 points less accurate").wait_for()
    told.get_by_text("“cat” is taken for “dog” in 3 of 10 images").wait_for()

    page.get_by_text("the one beside it", exact=True).click()
    settled(page, "compare")
    _click_marker(page, good)
    page.wait_for_url(f"**other={good}*")
    page.get_by_role("heading", name="Side by side").wait_for()
    assert f"run={small}" in page.url
    page.reload()
    settled(page, "compare")
    page.get_by_role("heading", name="Side by side").wait_for()

    page.get_by_text("Same budget, other method").click()
    page.get_by_test_id("stPopoverBody").get_by_role("button", name="OPQ").click()
    settled(page, "budget")
    page.get_by_role("button", name="Start OPQ run").wait_for()
    assert page.get_by_role("slider").first.get_attribute("aria-valuetext") == "90%"


def _click_marker(page: Page, run: str) -> None:
    """Click the marker of a run in the first chart: where Plotly drew the point that carries the run's id."""
    page.locator(ANY_TRACE).first.wait_for()
    place = page.evaluate(WHERE, run)
    assert place is not None, f"no marker of {run}"
    page.mouse.click(*place)


@pytest.mark.parametrize("name", nav.PAGES)
def test_nothing_is_cut_off_on_a_phone(browser: Browser, address: str, name: str) -> None:
    phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    phone.set_default_timeout(PAGE_SECONDS * 1000)
    phone.goto(address if name == "start" else f"{address}/{name}")
    settled(phone, name)
    width = phone.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    phone.close()
    assert width <= 390


def _cell(page: Page, row: int, content: str) -> None:
    """Edit the last cell of a row of the table of bounds; nothing empties it."""
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 40, box["y"] + 35 * (row + 1) + 17)
    page.wait_for_timeout(300)  # the grid is a canvas: nothing tells that the cell is picked
    if not content:
        page.keyboard.press("Delete")
        return
    page.keyboard.press("Enter")
    page.locator("#portal input").wait_for()
    page.keyboard.type(content)
    page.keyboard.press("Enter")


def test_table_and_sliders_bound_the_same_layer(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 1440, "height": 1500})
    page.goto(f"{address}/budget?part=Layers")
    settled(page, "budget")
    page.get_by_test_id("stDataFrame").wait_for()
    settled(page, "budget")
    low, high = page.get_by_role("slider", name="Bits of conv1").all()

    def stands(first: str, last: str) -> None:
        page.wait_for_function(
            "([low, high, first, last]) => low.getAttribute('aria-valuetext') === first"
            " && high.getAttribute('aria-valuetext') === last",
            arg=[low.element_handle(), high.element_handle(), first, last],
        )
        settled(page, "budget")

    _cell(page, 0, "6")
    stands("4", "6")
    low.press("ArrowRight")
    stands("5", "6")
    page.wait_for_url("**budget=*")
    _cell(page, 0, "3")
    page.get_by_text("the lower bound 5 is above the upper bound 3").wait_for()
    _cell(page, 0, "")
    low, high = page.get_by_role("slider", name="Bits of conv1").all()
    stands("4", "8")
    assert "budget=e" not in page.url
