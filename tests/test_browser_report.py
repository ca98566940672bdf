"""A report opened from disk in a browser: nothing is loaded, hover and pick work, hostile names are text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_report import HOSTILE, hostile

from compression.cli import main
from tests.served import settled

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["hostile"]
pytestmark = pytest.mark.browser
RUNS = ["gallery.resnet8-mnist5k.geta", "gallery.siren-chelsea.ptq-w5"]


def opened(page: Page, file: Path) -> list[str]:
    """Open a file from disk; every address that the tab asks for from then on."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.locator(".card").first.wait_for()
    return requests


def hover(page: Page, run: str) -> None:
    """Move the pointer onto the mark of a run."""
    box = page.locator(f'.mark[data-id="{run}"]').bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_hostile_names_are_text_and_nothing_is_loaded(page: Page, hostile: tuple[Path, list[str]]) -> None:
    root, runs = hostile
    file = root / "report.html"
    assert main(["report", *runs, "--runs", str(root), "--out", str(file)]) == 0
    page.add_init_script("window.hack = () => { window.hacked = true }")
    requests = opened(page, file)
    tip, card = page.locator(".front-tip"), page.locator(".card")
    hover(page, runs[1])
    assert HOSTILE in tip.inner_text()
    page.mouse.down()
    page.mouse.up()
    assert "90.0 %" in card.inner_text()  # of the second run
    page.locator(f'.mark[data-id="{runs[0]}"]').press("Enter")
    assert "97.0 %" in card.inner_text()
    page.locator(".runs .run").nth(1).click()
    assert "90.0 %" in card.inner_text()
    page.get_by_role("button", name="MACs").click()
    assert card.locator(".tag").inner_text() == HOSTILE
    assert page.locator(".matrix tbody th").first.inner_text() == HOSTILE
    assert page.locator("img").count() == 0 and not page.evaluate("window.hacked")
    assert requests == [file.as_uri()]


def test_charts_pictures_and_downloads_on_a_phone_and_on_paper(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert main(["report", *RUNS, "nosuch", "--out", str(file)]) == 0
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, file)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    widths = page.eval_on_selector_all("img", "all => all.map(each => each.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 0
    assert page.locator(".bars rect").count() > 20 and page.locator(".missing li").count() == 1
    assert page.evaluate("document.fonts.check('16px Report') && [...document.fonts].every(f => f.status == 'loaded')")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save budget.json").first.click()
    assert '"method": "geta"' in download.value.path().read_text()
    paper = page.pdf(prefer_css_page_size=True)
    assert paper[:5] == b"%PDF-" and paper.count(b"/Type /Page\n") <= 8


def test_the_button_on_compare_makes_the_file_of_the_command(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/compare?run={RUNS[0]}&gallery=true")
    settled(page, "compare")
    page.get_by_role("button", name="Report").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save report.html").click()
    text = download.value.path().read_text()
    file = tmp_path / "report.html"
    chosen = [run.get_attribute("data-id") for run in marks(page, download.value.path(), tmp_path)]
    assert chosen[0] == RUNS[0] and len(chosen) == 5
    assert main(["report", *map(str, chosen), "--out", str(file)]) == 0
    assert file.read_text().rstrip("\n") == text


def marks(page: Page, download: Path, folder: Path) -> list[object]:
    """The marks of runs in a report that was downloaded."""
    copy = folder / "downloaded.html"
    copy.write_bytes(download.read_bytes())
    opened(page, copy)
    return list(page.locator(".mark[data-id^=gallery]").element_handles())


def test_single_seeds_are_marks_around_their_mean(page: Page, tmp_path: Path) -> None:
    """The small marks pick their own runs; the caption says what they are, and nothing that is not there."""
    first, second = (f"gallery.resnet20-cifar10jpeg.{name}" for name in ("w4-s39", "w4-s39-seed1"))
    file = tmp_path / "report.html"
    assert main(["report", first, second, "--out", str(file)]) == 0
    opened(page, file)
    assert page.locator(f'.mark[data-id="{first}"]').count() == 2, "its own mark, and that of the mean"
    page.locator(f'.mark[data-id="{second}"]').press("Enter")
    assert page.locator(".card h3").inner_text() == "w4-s39-seed1"
    page.get_by_text("Small marks: single seeds").wait_for()
    for absent in ("Triangles at the bottom", "Thin lines of dots"):
        assert page.get_by_text(absent).count() == 0
