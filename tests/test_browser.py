"""The real app in a real browser: a newcomer goes through the pages and a GETA run finishes before their eyes."""

from __future__ import annotations

import contextlib
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_compare_page import finished

from app import names, nav
from app.gallery import tour
from compression.budget import Budget
from tests.served import clicks, count_clicks, follow, settled
from tests.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Page

pytestmark = pytest.mark.browser

RUN_SECONDS = 240
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


@pytest.mark.timeout(600)  # seconds for a machine that is busy with other things; alone it takes one minute
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
    figures = four_figures(page)

    page.reload()
    settled(page, "runs")
    page.get_by_role("heading", name="Result", exact=True).wait_for()
    assert four_figures(page) == figures
    follow(page, "export")
    take_home(page)
    follow(page, "explain")
    _explain(page)
    follow(page, "start")
    page.get_by_role("link", name=names.subject("resnet8", "mnist5k")).first.wait_for()


def take_home(page: Page) -> None:
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


def four_figures(page: Page) -> list[str]:
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
    page.wait_for_url("**budget=*")
    settled(page, "budget")


def _watch(page: Page) -> None:
    """Points appear while the run goes, more and more; then the result."""
    seen: set[int] = set()
    until = time.monotonic() + RUN_SECONDS
    done = page.get_by_role("heading", name="Result", exact=True)
    while not done.count():
        assert time.monotonic() < until, f"the run did not end; numbers of points seen: {sorted(seen)}"
        assert page.get_by_test_id("stException").count() == 0
        if page.get_by_test_id("stProgress").count() and page.locator(ANY_TRACE).count():
            seen.add(page.locator(ANY_TRACE).first.locator(".point").count())
        time.sleep(0.25)
    settled(page, "runs")
    assert len(seen) >= 2, f"the front grows while the run goes, not {sorted(seen)}"


def test_a_newcomer_takes_a_gallery_run_home(page: Page, address: str) -> None:
    """From Start to a finished run in one click, on to Compare and Explain, to a bundle on disk in seven."""
    count_clicks(page)
    page.goto(address)
    settled(page, "start")
    page.get_by_role("link", name="Open run geta").first.click()
    settled(page, "runs")
    assert clicks(page) == 1
    assert "run=gallery.resnet8-mnist5k.geta" in page.url
    figures = four_figures(page)
    page.get_by_test_id("stMain").get_by_role("link", name="Compare", exact=True).click()
    settled(page, "compare")
    page.locator(ANY_TRACE).first.wait_for()
    assert four_figures(page) == figures
    _click_marker(page, "gallery.resnet8-mnist5k.ptq")
    page.wait_for_url("**run=gallery.resnet8-mnist5k.ptq*")
    settled(page, "compare")  # the address is ahead of the links on the page
    page.get_by_test_id("stMain").get_by_role("link", name="Explain", exact=True).click()
    settled(page, "explain")
    page.locator(HEAT).nth(2 * TILES - 1).wait_for()
    follow(page, "export")
    assert "run=gallery.resnet8-mnist5k.ptq" in page.url
    take_home(page)
    assert clicks(page) == 7


def test_the_tour_is_walked_with_the_keyboard(page: Page, address: str) -> None:
    page.goto(address)
    settled(page, "start")
    page.get_by_role("button", name="Take the tour").focus()
    page.keyboard.press("Enter")
    for number, stop in enumerate(tour.STOPS, start=1):
        page.get_by_text(f"Tour, {number} of {len(tour.STOPS)}: {nav.PAGES[stop.page].title}.").wait_for()
        settled(page, stop.page)
        if number < len(tour.STOPS):
            page.get_by_role("button", name="Next", exact=True).focus()
            page.keyboard.press("Enter")
    page.get_by_role("button", name="End the tour").wait_for()
    page.get_by_role("button", name="Finish on Start").focus()
    page.keyboard.press("Space")
    settled(page, "start")
    page.get_by_role("button", name="Take the tour").wait_for()
    assert "tour=" not in page.url


def test_a_click_on_a_point_picks_its_run(page: Page, address: str, folder: Path) -> None:
    """Two more runs on the front: the one clicked is in the address and explained, and a link opens it again."""
    small = finished(folder / "runs", 0.90, 2_000, Budget(sparsity=0.9))
    good = finished(folder / "runs", 0.999, 3_000, Budget(sparsity=0.8))
    page.goto(f"{address}/compare?run={good}")
    settled(page, "compare")
    _click_marker(page, small)
    page.wait_for_url(f"**run={small}*")
    text = page.get_by_test_id("stMarkdown")
    text.get_by_text("40.0× smaller and 8.0 points less accurate").wait_for()
    text.get_by_text("“cat” is taken for “dog” in 3 of 10 images").wait_for()

    page.get_by_text("the one beside it", exact=True).click()
    settled(page, "compare")
    _click_marker(page, good)
    page.wait_for_url(f"**other={good}*")
    page.get_by_role("heading", name="Side by side").wait_for()
    assert f"run={small}" in page.url
    page.reload()
    settled(page, "compare")
    page.get_by_role("heading", name="Side by side").wait_for()

    page.get_by_text("Set a target", exact=True).click()
    page.get_by_role("heading", name="What reaches the target?").wait_for()
    settled(page, "compare")
    _click_in(page, 0.6, 0.25)
    page.wait_for_url("**target_kb=*")
    settled(page, "compare")
    assert f"run={small}" in page.url, "a click picks no run then"
    page.get_by_text("Set a target", exact=True).click()
    page.get_by_role("heading", name="What reaches the target?").wait_for(state="detached")
    settled(page, "compare")

    page.get_by_text("Same budget, other method").click()
    page.get_by_test_id("stPopoverBody").get_by_role("button", name="OPQ").click()
    settled(page, "budget")
    page.get_by_role("button", name="Start OPQ run").wait_for()
    assert page.get_by_role("slider").first.get_attribute("aria-valuetext") == "90%"


def _click_marker(page: Page, run: str) -> None:
    """Click the marker of a run in the first chart: where Plotly drew the point that carries the run's id."""
    page.locator(ANY_TRACE).first.wait_for()
    until(lambda: page.evaluate(WHERE, run) is not None, f"no marker of {run}")
    page.mouse.click(*page.evaluate(WHERE, run))


def _click_in(page: Page, across: float, down: float) -> None:
    """Click a place of the first chart, by its share of the width and height of the plotted area."""
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])


def _edit(page: Page, content: str, seen: str, arg: object = None) -> None:
    """Edit the last cell of the first row of the table of bounds (nothing empties it) until ``seen`` is true.

    The table is a canvas that does not tell when it listens, so an edit that it missed is made again.
    """
    from playwright.sync_api import TimeoutError as Late

    for _ in range(6):
        box = _at_rest(page)
        page.mouse.click(box["x"] + box["width"] - 40, box["y"] + 52)
        page.wait_for_timeout(500)
        if content:
            page.keyboard.press("Enter")
            page.locator("#portal input").fill(content)
            page.wait_for_timeout(500)
        page.keyboard.press("Enter" if content else "Delete")
        with contextlib.suppress(Late):
            page.wait_for_function(seen, arg=arg, timeout=6000)
            return
        page.keyboard.press("Escape")
    raise AssertionError(f"the table took no edit: {content!r}")


def _at_rest(page: Page) -> FloatRect:
    """Where the table stands once lines above it have come or gone, and a new table has taken an old one's place."""
    before, box = None, None
    while box is None or box != before:
        page.wait_for_timeout(500)
        page.get_by_test_id("stDataFrame").first.scroll_into_view_if_needed()
        before, box = box, page.get_by_test_id("stDataFrame").first.bounding_box()
    return box


STANDS = """([first, last]) => {
    const ends = [...document.querySelectorAll("input[type=range]")].filter(
        end => (end.getAttribute("aria-label") || "").startsWith("Bits of conv1"))
    return ends.length === 2 && ends[0].getAttribute("aria-valuetext") === first
        && ends[1].getAttribute("aria-valuetext") === last
}"""
REFUSED = "() => document.body.innerText.includes('the lower bound 5 is above the upper bound 3')"


def test_table_and_sliders_bound_the_same_layer(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 1440, "height": 1500})
    page.goto(f"{address}/budget?part=Layers")
    settled(page, "budget")
    page.get_by_test_id("stDataFrame").wait_for()
    _edit(page, "6", STANDS, ["4", "6"])
    page.get_by_role("slider", name="Bits of conv1").first.press("ArrowRight")
    page.wait_for_function(STANDS, arg=["5", "6"])
    page.wait_for_url("**budget=*")
    settled(page, "budget")
    _edit(page, "3", REFUSED)
    _edit(page, "", STANDS, ["4", "8"])
    assert "budget=e" not in page.url


def test_a_field_that_was_folded_away_keeps_its_value(page: Page, address: str) -> None:
    """The browser draws it first when the fold is opened, long after the server has sent its value."""
    page.goto(f"{address}/budget?seed=7&epochs=2.5")
    settled(page, "budget")
    page.get_by_test_id("stButtonGroup").first.get_by_text("OPQ").click()
    page.get_by_role("button", name="Start OPQ run").wait_for()
    settled(page, "budget")
    page.get_by_text("Training", exact=True).first.click()
    for name, value in (("Epochs", "2.5"), ("Seed", "7")):
        assert page.get_by_role("spinbutton", name=name).input_value() == value
    moved = page.url
    page.get_by_role("slider").first.press("ArrowRight")
    page.wait_for_url(lambda url: url != moved)
    settled(page, "budget")
    for name, value in (("Epochs", "2.5"), ("Seed", "7")):
        assert page.get_by_role("spinbutton", name=name).input_value() == value
