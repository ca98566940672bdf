"""Compress a picture: a newcomer chooses one, watches it while sliders move, runs, and sees it beside the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.served import follow, settled

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

RUN_SECONDS = 240


def pictures(page: Page) -> list[str | None]:
    """The addresses of the pictures on the page, which are those of their content: the original, then the network's."""
    images = page.get_by_test_id("stMain").locator("img")
    images.nth(1).wait_for()
    return [image.get_attribute("src") for image in images.all()]


@pytest.mark.timeout(600)  # seconds for a machine that is busy with other things; alone it takes half a minute
def test_a_newcomer_compresses_a_picture(page: Page, address: str) -> None:
    page.goto(f"{address}/model")
    settled(page, "model")
    page.get_by_test_id("stSelectbox").first.locator("input").click()
    page.keyboard.type("siren")
    page.keyboard.press("Enter")
    page.wait_for_url("**model=siren*")
    settled(page, "model")

    follow(page, "budget")
    page.get_by_test_id("stButtonGroup").get_by_text("Round to nearest").click()
    original, planned = pictures(page)
    page.get_by_role("slider").first.press("ArrowLeft")
    page.wait_for_function(
        "before => ![...document.querySelectorAll('[data-testid=stMain] img')].some(each => each.src === before)",
        arg=planned,
    )
    settled(page, "budget")
    assert pictures(page)[0] == original

    page.get_by_role("button", name="Start Round to nearest run").click()
    settled(page, "runs")
    page.get_by_text("What came of it").wait_for(timeout=RUN_SECONDS * 1000)
    settled(page, "runs")
    true, network = pictures(page)
    assert true != network
    page.get_by_text("bits a pixel").first.wait_for()

    follow(page, "compare")
    assert pictures(page) == [true, network]
